"""A model given as a YOLO object: the checkpoint that holds it.

A study names its model by a file, which every process of a search reads and a resumed search finds again. An object
that was read from a file and not changed since is that file; another is written to a file named by its weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.config.inputs.paths import is_file
from search.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

FOLDER = "models"
"""Folder of the project for models that were in memory only."""


def is_loaded(model: object) -> bool:
    """Return whether a study's model is an object such as `YOLO("best.pt")` instead of a path."""
    return hasattr(model, "model") and hasattr(model, "predict")


def checkpoint_of(model: Any, folder: Path, readable: Callable[[Path], Path] = lambda file: file) -> Path:
    """Return the checkpoint of a YOLO object; write one to `folder` if it is in memory only.

    A prediction or validation fuses the object's layers, so such an object stands for the file that it was read from,
    if that file has these weights once it is fused.

    Args:
        readable: the file to read in the place of another: the clean copy of one that is trusted.

    Raises:
        ConfigError: an exported model, or fused layers without the file that they were read from.
        CheckpointError: its file cannot be read safely.
    """
    from torch import float32
    from torch.nn import Module

    from pruning.checkpoints.checkpoint import save_model

    network = model.model
    if not isinstance(network, Module):
        raise ConfigError(
            f"{network} is an exported model, which cannot be pruned", where="model", expected='YOLO("best.pt")'
        )
    file = Path(str(getattr(network, "pt_path", None) or getattr(model, "ckpt_path", None) or ""))
    is_fused = bool(getattr(network, "is_fused", lambda: False)())
    if is_file(file) and (_holds_fused if is_fused else _holds)(readable(file), network):
        return file.resolve()
    if is_fused:
        raise ConfigError(
            "the layers of this model were fused, by a prediction for example, and it is in no file",
            where="model",
            expected="the model before it was fused, saved by model.save(FILE)",
        )
    described = getattr(network, "yaml", None) or {}
    stem = Path(str(described.get("yaml_file") or "model")).stem
    made = folder / f"{stem}-{_digest(network)[:12]}.pt"
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        save_model(network, made, dtype=float32)
    return made.resolve()


def _holds(file: Path, network: nn.Module) -> bool:
    """Return whether a checkpoint has the very weights of a network."""
    from pruning.checkpoints.checkpoint import load_model

    return _digest(load_model(file)) == _digest(network)


def _holds_fused(file: Path, network: nn.Module) -> bool:
    """Return whether a checkpoint has the weights of a fused network once it is fused itself.

    Within what the arithmetic of another device, or half precision, makes of the product of two weights.
    """
    import torch

    from pruning.checkpoints.checkpoint import load_model

    read: Any = load_model(file)
    known, found = read.fuse(verbose=False).state_dict(), network.state_dict()
    return known.keys() == found.keys() and all(
        tensor.shape == found[name].shape
        and torch.allclose(
            tensor.float(),
            found[name].cpu().float(),
            rtol=1e-5 if found[name].dtype == torch.float32 else 1e-2,
            atol=1e-6 if found[name].dtype == torch.float32 else 1e-4,
        )
        for name, tensor in known.items()
    )


def _digest(network: nn.Module) -> str:
    """Return the sha256 of names and float32 values of all weights and statistics."""
    found = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        found.update(name.encode())
        found.update((tensor.float() if tensor.is_floating_point() else tensor).cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
