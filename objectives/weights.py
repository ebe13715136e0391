"""Weights and modules of a network as it is deployed: what compilers of 8-bit hardware count."""

from __future__ import annotations

from typing import Any

from torch import nn

from objectives.ultralytics_door import is_ultralytics, quiet, twin_of


def kernel_weights(model: nn.Module) -> int:
    """Count the weights of convolutions and linear layers of the network as it is deployed, a byte each in INT8.

    Biases and normalisation are not among them: Sony's Model Compression Toolkit 2.6 counts the quantised kernels alone
    (`ResourceUtilizationCalculator`, IMX500 capabilities 4.0), and holds 8-bit hardware to that.
    """
    return sum(value.numel() for value in deployed(model).parameters() if value.ndim > 1)


def module_count(model: nn.Module) -> int:
    """Count the modules of the network as it is deployed, itself included."""
    return sum(1 for _ in deployed(model).modules())


def deployed(model: nn.Module) -> nn.Module:
    """Return a copy as Ultralytics exports it: batch norms and parallel branches fused, and of two heads the one
    without end-to-end selection. A network of a user's own is returned as it is.
    """
    if not is_ultralytics(model):
        return model
    twin: Any = twin_of(model).eval()
    if getattr(twin, "end2end", False):
        twin.end2end = False
    with quiet():
        fused: nn.Module = twin.fuse(verbose=False)
    return fused
