"""Plan.apply and Plan.mask: the same plan as a smaller module, and as a module of full size with zeros.

`apply` builds the new module from the kept slices directly; nothing of full size is copied first. Modules are cloned
shallowly (same class, own dictionaries), tensors are sliced along the dimensions that the group table names, and the
few width attributes of stock classes are re-read from the new tensors.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pruning.blocks import block_of
from pruning.depth import remove_blocks, silence_blocks
from pruning.plan import Plan

IMMUTABLE = (int, float, str, bytes, bool, type(None), torch.Size, torch.dtype, torch.device, type)

OWN_TREES = ("_parameters", "_buffers", "_modules")


def apply(plan: Plan, model: nn.Module) -> nn.Module:
    """A new module that holds only the kept channels. Classes, names, hooks of the model stay; weights are copied."""
    assert plan.graph is not None
    kept = _kept_indices(plan)
    cloner = _Cloner(kept)
    small = cloner.module(model, "")
    widths = plan.widths
    for block, heads in plan.graph.table.heads.items():
        left = sum(any(widths[plan.graph.groups[g].name] for g in head) for head in heads)
        small.get_submodule(block).num_heads = left  # type: ignore[assignment]
    for module in small.modules():
        _refresh(module)
    return remove_blocks(small, plan.removed)


def mask(plan: Plan, model: nn.Module) -> nn.Module:
    """A deep copy whose removed channels are zero where they are made and where they are read."""
    assert plan.graph is not None
    twin = copy.deepcopy(model)
    tensors = dict(twin.named_parameters())
    with torch.no_grad():
        for (name, dim), removed in _removed_indices(plan).items():
            if name in tensors:
                tensors[name].index_fill_(dim, removed.to(tensors[name].device), 0)
    return silence_blocks(twin, plan.removed)


def _kept_indices(plan: Plan) -> dict[str, dict[int, Tensor]]:
    """Tensor name -> dimension -> kept indices, for dimensions that lose something."""
    assert plan.graph is not None
    keep = plan.unit_mask(plan.graph.table)
    found: dict[str, dict[int, Tensor]] = {}
    for (name, dim), units in plan.graph.table.slots.items():
        flags = keep[units]
        if not flags.all():
            found.setdefault(name, {})[dim] = torch.from_numpy(np.flatnonzero(flags))
    return found


def _removed_indices(plan: Plan) -> dict[tuple[str, int], Tensor]:
    assert plan.graph is not None
    keep = plan.unit_mask(plan.graph.table)
    return {
        slot: torch.from_numpy(np.flatnonzero(~keep[units]))
        for slot, units in plan.graph.table.slots.items()
        if not keep[units].all()
    }


class _Cloner:
    """Copies a module tree, slicing tensors on the way. Shared modules and tensors stay shared."""

    def __init__(self, kept: dict[str, dict[int, Tensor]]) -> None:
        self.kept = kept
        self.modules: dict[int, nn.Module] = {}
        self.tensors: dict[int, Tensor] = {}

    def module(self, source: nn.Module, path: str) -> nn.Module:
        if id(source) in self.modules:
            return self.modules[id(source)]
        clone = object.__new__(type(source))
        self.modules[id(source)] = clone
        state = clone.__dict__
        for key, value in source.__dict__.items():
            if key not in OWN_TREES:
                state[key] = value if isinstance(value, IMMUTABLE) else _copied(value)
        prefix = f"{path}." if path else ""
        state["_parameters"] = {k: self._tensor(v, prefix + k) for k, v in source._parameters.items()}
        state["_buffers"] = {k: self._tensor(v, prefix + k) for k, v in source._buffers.items()}
        state["_modules"] = {k: None if v is None else self.module(v, prefix + k) for k, v in source._modules.items()}
        return clone

    def _tensor(self, source: Tensor | None, name: str) -> Tensor | None:
        if source is None:
            return None
        if id(source) not in self.tensors:
            self.tensors[id(source)] = self._sliced(source, name)
        return self.tensors[id(source)]

    def _sliced(self, source: Tensor, name: str) -> Tensor:
        value = source.detach()
        dims = self.kept.get(name)
        if dims is None:
            value = value.clone()
        else:
            for dim, indices in dims.items():
                value = value.index_select(dim, indices.to(value.device))
        return nn.Parameter(value, source.requires_grad) if isinstance(source, nn.Parameter) else value


def _copied(value: Any) -> Any:
    """Own copy of an attribute that is not a module, a parameter or a buffer."""
    if isinstance(value, (dict, OrderedDict, list, set)) and not value:
        return type(value)()
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, tuple) and all(isinstance(item, IMMUTABLE) for item in value):
        return value
    if callable(value) and not isinstance(value, nn.Module):
        return value
    return copy.deepcopy(value)


def _refresh(module: nn.Module) -> None:
    """Make the stored widths of a layer or block agree with its tensors."""
    if isinstance(module, nn.ConvTranspose2d):
        module.in_channels, module.out_channels = (
            module.weight.shape[0],
            module.weight.shape[1] * module.groups,
        )
    elif isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        if module.groups > 1 and module.weight.shape[1] == 1:  # depthwise: one input channel per group
            module.groups = module.weight.shape[0] // (module.out_channels // module.groups)
        module.out_channels, module.in_channels = (
            module.weight.shape[0],
            module.weight.shape[1] * module.groups,
        )
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
        module.num_features = module.weight.shape[0]
    block = block_of(module)
    if block is not None and block.refresh is not None:
        block.refresh(module)
