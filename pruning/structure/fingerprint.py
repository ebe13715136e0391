"""Hash of a model's structure, which ties a plan to the models it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from torch import Tensor, nn

from pruning.errors import PlanError


def fingerprint(model: nn.Module) -> str:
    """Return a short hash of the names and shapes of all tensors."""
    text = ";".join(f"{name}{tuple(value.shape)}" for name, value in _tensors(model))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_fingerprint(model: nn.Module, expected: str) -> None:
    """Raise PlanError unless the model has this fingerprint."""
    found = fingerprint(model)
    if found != expected:
        raise PlanError(
            f"this plan was made for another model: its tensors have fingerprint {expected}, "
            f"the model's {found}. Give the unpruned base that the plan was made on."
        )


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters, then buffers, shared ones once: named_parameters and named_buffers in one faster pass."""
    modules: dict[nn.Module, str] = {}
    _collect(model, "", modules)
    for tree in ("_parameters", "_buffers"):
        seen: set[int] = set()
        for module, prefix in modules.items():
            for name, value in module.__dict__[tree].items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield prefix + name, value


def _collect(module: nn.Module, prefix: str, found: dict[nn.Module, str]) -> None:
    found[module] = prefix
    for name, child in module._modules.items():
        if child is not None and child not in found:
            _collect(child, f"{prefix}{name}.", found)
