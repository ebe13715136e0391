"""State that the operator rules update while they traverse the exported graph of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from pruning.trace import labels as lab

Slot = tuple[str, int]
"""A dimension of a parameter or buffer, by state-dict name: ('model.0.conv.weight', 0)."""


@dataclass(frozen=True)
class Partition:
    """Pieces of a channel dimension (atoms of each) whose kept counts must agree.

    `separate`: the pieces are heads, which choose their own channels, so they must not be merged into one group.
    """

    pieces: tuple[Tensor, ...]
    where: str
    separate: bool = False
    block: str = ""


@dataclass(frozen=True)
class Product:
    """A MAC term: `factor` times the channel counts of at most two slots.

    `owner` is its layer or module, `positions` the elements written per channel of the first slot.
    """

    factor: int
    slots: tuple[Slot, ...] = ()
    owner: str = ""
    positions: int = 0


@dataclass
class Tracer:
    """State that the operator rules update while they traverse the graph."""

    modules: Mapping[str, nn.Module]
    first_names: Mapping[str, str] = field(default_factory=dict)  # of tensors: any name -> the one that is used
    size: int = 1  # atom 0 is "no channel"
    meetings: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    slots: dict[Slot, Tensor] = field(default_factory=dict)
    frozen: list[tuple[str, Tensor]] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    unsupported: set[str] = field(default_factory=set)
    parameters: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    producers: dict[str, tuple[Slot, int]] = field(default_factory=dict)
    counting: bool = True
    width: int = 1  # of the input, in pixels

    def fresh(self, count: int) -> Tensor:
        """Create `count` new atoms."""
        atoms = torch.arange(self.size, self.size + count, dtype=torch.int32)
        self.size += count
        return atoms

    def couple(self, first: Tensor, second: Tensor) -> None:
        """Couple two label tensors elementwise (0 couples with nothing)."""
        first, second = lab.broadcast(first, second)
        both = (first != 0) & (second != 0) & (first != second)
        if bool(both.any()):
            self.meetings.append((first[both], second[both]))

    def bind(self, name: str, dim: int, vector: Tensor) -> None:
        """Assign atoms to the indices of dimension `dim` of tensor `name`. A shared weight couples both of its uses."""
        known = self.slots.setdefault((name, dim), vector)
        if known is not vector:
            self.couple(known, vector)

    def count(self, node: fx.Node, factor: int, *slots: Slot, positions: int = 0) -> None:
        """Add a multiply-accumulate term of the module that ran `node`; see `Product`."""
        if self.counting:
            self.products.append(Product(factor, slots, f"{self.owner(node)[0]}.", positions))

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Mark these channels as not removable."""
        atoms = lab.atoms_in(labels)
        if atoms.numel():
            self.frozen.append((reason, atoms))

    def owner(self, node: fx.Node) -> tuple[str, str]:
        """Return (path, class name) of the module whose forward ran this node."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, cls = stack[-1] if stack else ("", "")
        name = cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
        return strip_root(str(path)), name.rsplit(".", 1)[-1]


def strip_root(path: str) -> str:
    """Return the path of a module in the model from its path inside the exported wrapper.

    A model that iterates over `self.model[:-1]`, as RT-DETR does, has the slice in its paths; the numbers are kept.
    """
    if path == ROOT:
        return ""
    path = path[len(ROOT) + 1 :] if path.startswith(f"{ROOT}.") else path
    return re.sub(r"slice\(None, [^)]*\)\.", "", path)


ROOT = "traced"
