"""A network that every runtime takes, and its file for each of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from objectives.runtimes.export import export_for_timing
from objectives.runtimes.names import RUNTIMES, file_suffix, module_of
from objectives.runtimes.runner import Image

SIZE = 32
LITERT_FILE = Path(__file__).parent / "contract.tflite"
"""Made of `network()` by `export_for_timing(network(), path, imgsz=SIZE, runtime="litert")`, where litert-torch was
installed (it brings JAX and Transformers): the runtime is light, the converter is not."""
HERE = [name for name in RUNTIMES if name != "tensorrt"]
"""Runtimes of a processor."""


def network() -> nn.Module:
    """A convolution, a residual, a pooling and a linear layer: weights that are the same everywhere."""
    model = _Residual().eval()
    with torch.no_grad():
        for number, value in enumerate(model.parameters()):
            value.copy_(torch.linspace(-0.4, 0.5, value.numel()).sin().roll(number).reshape(value.shape))
    return model


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.second = nn.Conv2d(16, 16, 3, 1, 1)
        self.last = nn.Conv2d(16, 7, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map (B, 3, H, W) to (B, 7, H / 2, W / 2)."""
        features = torch.nn.functional.silu(self.first(image))
        found: torch.Tensor = self.last(features + torch.relu(self.second(features)))
        return found


def image(batch: int = 1, seed: int = 1) -> Image:
    """A random image batch, 0 to 1."""
    return np.random.default_rng(seed).random((batch, 3, SIZE, SIZE), dtype=np.float32)


def expected(images: Image) -> Image:
    """What PyTorch computes."""
    with torch.inference_mode():
        found: Image = network()(torch.from_numpy(images)).numpy()
    return found


def skip_unless_installed(runtime: str) -> None:
    """Skip, with the pip line, where the runtime or what makes its files is missing."""
    for name in (module_of(runtime), *{"ncnn": ["pnnx"], "executorch": ["executorch"]}.get(runtime, [])):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install paretoprune[{runtime}]")


def artefact(runtime: str, folder: Path, batch: int = 1) -> Path | nn.Module:
    """What the runtime opens: the module itself for torch, else its file."""
    skip_unless_installed(runtime)
    if runtime == "torch":
        return network()
    if runtime == "litert" and importlib.util.find_spec("litert_torch") is None:
        if batch != 1:
            pytest.skip("litert-torch is not installed: pip install paretoprune[litert]")
        return LITERT_FILE
    batch = 1 if runtime == "ncnn" else batch  # ncnn has no batch
    path = folder / f"network-{batch}{file_suffix(runtime)}"
    return path if path.exists() else export_for_timing(network(), path, imgsz=SIZE, batch=batch, runtime=runtime)
