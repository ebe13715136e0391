"""A template of a model's module tree, for fast cloning.

`copy.deepcopy` inspects every attribute of every module. A search clones one tree thousands of times, so a `Template`
caches the result: which attributes may be shared, which are empty containers, which need a copy, where modules and
tensors are used twice. It holds the structure only; weights are read from the model every time. `clone` first compares
the model with the template (one comparison of dictionaries per module, which sees attributes, children, hooks and
replaced tensors) and raises TreeChanged where they differ, since a shared attribute that changes would couple the
pruned model to its base.
"""

from __future__ import annotations

import copy
import types
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

SHARED = frozenset(
    {int, float, str, bytes, bool, type(None), torch.Size, torch.dtype, torch.device, type}
    | {types.FunctionType, types.BuiltinFunctionType}
)
"""Types of values that two models may share: nothing in them can change."""

NOTHING: Mapping[type[Any], Any] = {kind: kind() for kind in (dict, OrderedDict, list, set)}
TREES = ("_parameters", "_buffers", "_modules")

Attributes = dict[str, Any]
Places = tuple[tuple[str, int | None], ...]
"""Name -> number of a tensor or a module, None where the model has None."""


class TreeChanged(Exception):
    """The model differs from the one that the template was read from."""


@dataclass(frozen=True, slots=True)
class ModelClone:
    """A clone under construction: modules with attributes of their own, but without tensors and children."""

    template: Template
    clones: list[nn.Module]
    states: list[Attributes]
    copies: dict[int, Any] = field(default_factory=dict)  # by id of what was copied: twice the same stays so

    @property
    def tensors(self) -> list[Tensor]:
        """Return the tensors of the source model, shared ones once."""
        return self.template.tensors

    def filled(self, tensors: Sequence[Tensor]) -> nn.Module:
        """Return the finished tree, with `tensors` in place of the model's own."""
        template, clones = self.template, self.clones
        for number, key, places in template.branches:
            found: Sequence[Any] = clones if key == "_modules" else tensors
            self.states[number][key] = {name: None if n is None else found[n] for name, n in places}
        for number, key in template.own:
            self.states[number][key] = self._copied(self.states[number][key], tensors)
        return clones[0]

    def _copied(self, value: Any, tensors: Sequence[Tensor]) -> Any:
        """Copy an attribute; references into the source tree become references to their counterparts in the clone."""
        kind = type(value)
        if kind in SHARED or (kind is tuple and SHARED.issuperset(map(type, value))):
            return value
        known = self.copies.get(id(value), self)
        if known is self:
            known = self.copies[id(value)] = self._copied_anew(value, tensors)
        return known

    def _copied_anew(self, value: Any, tensors: Sequence[Tensor]) -> Any:
        if type(value) is dict:
            return {key: self._copied(item, tensors) for key, item in value.items()}
        if type(value) is list:
            return [self._copied(item, tensors) for item in value]
        if isinstance(value, Tensor):
            known = self.template.tensor_numbers.get(id(value))
            return value.detach().clone() if known is None else tensors[known]
        memo: dict[int, Any] = {id(old): new for old, new in zip(self.tensors, tensors, strict=True)}
        memo |= {id(old): new for old, new in zip(self.template.modules, self.clones, strict=True)}
        return copy.deepcopy(value, self.copies | memo)


class Template:
    """Structure of one model: `modules` in the order of `named_modules`, `tensors` and their `names`; shared ones once.

    `snapshots` are the attributes of the modules as they were read, containers copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules: list[nn.Module] = []
        self.tensors: list[Tensor] = []
        self.names: list[str] = []
        self.branches: list[tuple[int, str, Places]] = []
        self.own: list[tuple[int, str]] = []
        reader = _Reader(self)
        reader.module(model, "")
        self.tensor_numbers = reader.tensors
        self.states = [module.__dict__ for module in self.modules]
        self.kinds = [type(module) for module in self.modules]
        self.shapes = [tensor.shape for tensor in self.tensors]
        self.snapshots = [_snapshot(state) for state in self.states]
        self.fresh = [_fresh(state) for state in self.states]

    def clone(self, model: nn.Module) -> ModelClone:
        """Clone all modules of `model`. Raises TreeChanged."""
        if not self._fits(model):
            raise TreeChanged
        clones, states = [], []
        for kind, state, fresh in zip(self.kinds, self.states, self.fresh, strict=True):
            own = state.copy()
            for key, container in fresh:
                own[key] = container()
            clone = object.__new__(kind)
            object.__setattr__(clone, "__dict__", own)
            clones.append(clone)
            states.append(own)
        return ModelClone(self, clones, states)

    def _fits(self, model: nn.Module) -> bool:
        if model is not self.modules[0] or [tensor.shape for tensor in self.tensors] != self.shapes:
            return False
        try:
            return self.states == self.snapshots and list(map(type, self.modules)) == self.kinds
        except (RuntimeError, TypeError, ValueError):  # another tensor or array: these do not compare to one truth
            return False


def _snapshot(state: Attributes) -> Attributes:
    """Return attributes to compare with later; trees, which change in place, are copied, empty containers shared."""
    kept = {key: NOTHING[type(v)] for key, v in state.items() if type(v) in NOTHING and not v}
    return {**state, **{key: dict(state[key]) for key in TREES}, **kept}


def _fresh(state: Attributes) -> list[tuple[str, type[Any]]]:
    """Return attributes that a clone gets as new empty containers; trees that are not empty are filled later."""
    return [(key, type(value)) for key, value in state.items() if type(value) in NOTHING and not value]


class _Reader:
    """Reads a model once into a template."""

    def __init__(self, template: Template) -> None:
        self.template = template
        self.modules: dict[int, int] = {}
        self.tensors: dict[int, int] = {}

    def module(self, source: nn.Module, prefix: str) -> int:
        """Return the number of `source`, whose tensors' names begin with `prefix`."""
        if id(source) in self.modules:
            return self.modules[id(source)]
        number = self.modules[id(source)] = len(self.template.modules)
        self.template.modules.append(source)
        for key in TREES:
            found = source.__dict__[key]
            if found:
                places = tuple((name, self._number(value, prefix + name)) for name, value in found.items())
                self.template.branches.append((number, key, places))
        self.template.own += [(number, key) for key, value in source.__dict__.items() if _needs_copy(key, value)]
        return number

    def _number(self, value: Tensor | nn.Module | None, name: str) -> int | None:
        if value is None:
            return None
        if isinstance(value, nn.Module):
            return self.module(value, f"{name}.")
        if id(value) not in self.tensors:
            self.tensors[id(value)] = len(self.template.tensors)
            self.template.tensors.append(value)
            self.template.names.append(name)
        return self.tensors[id(value)]


def _needs_copy(key: str, value: Any) -> bool:
    kind = type(value)
    empty = kind in NOTHING and not value
    return not (key in TREES or kind in SHARED or empty or (kind is tuple and SHARED.issuperset(map(type, value))))
