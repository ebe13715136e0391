"""Plan.apply and Plan.mask: the same plan as a smaller module, and as a module of full size with zeros.

`apply` builds the new module from the kept slices directly; nothing of full size is copied first. Modules are cloned
shallowly (same class, own dictionaries), tensors are sliced along the dimensions that the group table names, and the
few width attributes of stock classes are re-read from the new tensors.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pruning.blocks import block_of
from pruning.depth import remove_blocks, silence_blocks
from pruning.plan import Plan

IMMUTABLE = frozenset({int, float, str, bytes, bool, type(None), torch.Size, torch.dtype, torch.device, type})
EMPTY = frozenset({dict, OrderedDict, list, set})
OWN_TREES = frozenset({"_parameters", "_buffers", "_modules"})


def apply(plan: Plan, model: nn.Module) -> nn.Module:
    """A new module that holds only the kept channels. Classes, names, hooks of the model stay; weights are copied."""
    assert plan.graph is not None
    cloner = _Cloner(_kept_indices(plan))
    with torch.no_grad():
        small = cloner.module(model, "")
    widths = plan.widths if plan.graph.table.heads else {}
    for block, heads in plan.graph.table.heads.items():
        left = sum(any(widths[plan.graph.groups[g].name] for g in head) for head in heads)
        small.get_submodule(block).num_heads = left  # type: ignore[assignment]
    for module in cloner.modules.values():
        _refresh(module)
    return remove_blocks(small, plan.removed) if plan.removed else small


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
    for units, slots in plan.graph.table.alike:
        flags = keep[units]
        if not flags.all():
            indices = torch.from_numpy(np.flatnonzero(flags))
            for name, dim in slots:
                found.setdefault(name, {})[dim] = indices
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
    """Copies a module tree, slicing tensors on the way. Shared modules and tensors stay shared.

    A search does this for every candidate, a few hundred modules and tensors each time, so the loops are kept short.
    """

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
            kind = type(value)
            if kind in IMMUTABLE:
                state[key] = value
            elif key not in OWN_TREES:
                state[key] = kind() if kind in EMPTY and not value else _copied(value)
        prefix = f"{path}." if path else ""
        state["_parameters"] = {k: self._tensor(v, prefix + k) for k, v in source._parameters.items()}
        state["_buffers"] = {k: self._tensor(v, prefix + k) for k, v in source._buffers.items()}
        state["_modules"] = {k: None if v is None else self.module(v, prefix + k) for k, v in source._modules.items()}
        return clone

    def _tensor(self, source: Tensor | None, name: str) -> Tensor | None:
        if source is None:
            return None
        known = self.tensors.get(id(source))
        if known is None:
            known = self.tensors[id(source)] = self._sliced(source, name)
        return known

    def _sliced(self, source: Tensor, name: str) -> Tensor:
        value = source
        dims = self.kept.get(name)
        if dims is None:
            value = source.detach().clone()
        else:
            for dim, indices in dims.items():
                value = value.index_select(dim, indices if source.is_cpu else indices.to(source.device))
        is_parameter = type(source) is nn.Parameter or isinstance(source, nn.Parameter)  # the second is slow
        return nn.Parameter(value, source.requires_grad) if is_parameter else value


def _copied(value: Any) -> Any:
    """Own copy of an attribute that is not a module, a parameter or a buffer."""
    kind = type(value)
    if kind in IMMUTABLE:
        return value
    if kind is dict:
        return {key: _copied(item) for key, item in value.items()}
    if kind is list:
        return [_copied(item) for item in value]
    if kind is tuple and IMMUTABLE.issuperset(map(type, value)):
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()
    if callable(value) and not isinstance(value, nn.Module):
        return value
    return copy.deepcopy(value)


def _refresh(module: Any) -> None:
    """Make the stored widths of a layer or block agree with its tensors."""
    refresh = _refresher(module.__class__)
    if refresh is not None:
        refresh(module, module.__dict__)  # plain numbers: nn.Module's own __setattr__ would only take time
    block = block_of(module)
    if block is not None and block.refresh is not None:
        block.refresh(module)


Widths = dict[str, Any]


def _refresh_transposed(module: Any, state: Widths) -> None:
    weight = module.weight
    state["in_channels"], state["out_channels"] = weight.shape[0], weight.shape[1] * module.groups


def _refresh_convolution(module: Any, state: Widths) -> None:
    outputs, inputs = module.weight.shape[:2]
    if module.groups > 1 and inputs == 1:  # depthwise: one input channel per group
        state["groups"] = outputs // (module.out_channels // module.groups)
    state["out_channels"], state["in_channels"] = outputs, inputs * module.groups


def _refresh_linear(module: Any, state: Widths) -> None:
    state["out_features"], state["in_features"] = module.weight.shape


def _refresh_norm(module: Any, state: Widths) -> None:
    if module.weight is not None:
        state["num_features"] = module.weight.shape[0]


LAYERS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Callable[[Any, Widths], None]], ...] = (
    (nn.ConvTranspose2d, _refresh_transposed),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _refresh_convolution),
    (nn.Linear, _refresh_linear),
    (nn.modules.batchnorm._BatchNorm, _refresh_norm),
)


@cache
def _refresher(kind: type[Any]) -> Callable[[Any, Widths], None] | None:
    return next((refresh for classes, refresh in LAYERS if issubclass(kind, classes)), None)
