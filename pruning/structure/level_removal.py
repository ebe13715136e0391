"""Detection levels that can be removed: P3, P4, P5 of a head of the Detect family, with all that only they need.

A detection head predicts at every cell of feature maps of several strides; `P5` is the level of stride 2^5. Without a
level the network makes no predictions there, and those of the other levels are exactly the same: the levels of a head
share nothing but the fixed weights of its DFL. Layers of backbone and neck that fed only this level go with it (without
P5, the last step of the PAN in YOLOv8: Liu et al., CVPR 2018, arXiv 1803.01534). The masked twin runs the whole network
and leaves the predictions of that level out before they are decoded and, in end-to-end heads, chosen.

The list of layers is renumbered, as if the network had been built so; every class stays a stock one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import log2
from typing import Any

import torch
from torch import Tensor, nn

from pruning.errors import PlanError
from ultralytics_versions.tested import installed, levels_can_go

HEADS: Mapping[str, str | None] = {
    "Detect": None,
    "v10Detect": None,
    "OBB": None,
    "OBB26": None,
    "Pose": None,
    "Pose26": None,
    "Segment": "finest",
    "Segment26": "all",
}
"""Classes of heads -> the levels that their mask prototypes read, and that stay therefore."""


@dataclass(frozen=True)
class RemovableLevel:
    """A level by its name, and the prefixes of the modules that are removed with it alone."""

    path: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Pyramid:
    """Levels of a detection head, finest first, and how the layers of its network hang together.

    Attributes:
        head: path of the head, the last of `layers`.
        layers: path of the list of layers.
        names: of the levels, such as P3.
        strides: in pixels.
        sources: for every layer the numbers of those that it reads (-1: the image); for the head one per level.
        branches: names of the head's lists of one module per level.
        needed: levels that stay, because the masks are made from them.
    """

    head: str
    layers: str
    names: tuple[str, ...]
    strides: tuple[int, ...]
    sources: tuple[tuple[int, ...], ...]
    branches: tuple[str, ...]
    needed: tuple[str, ...]

    @cached_property
    def removable(self) -> tuple[RemovableLevel, ...]:
        """Levels that can be removed; one is left."""
        if len(self.names) == 1:
            return ()
        names = [name for name in self.names if name not in self.needed]
        return tuple(RemovableLevel(name, self.parts((name,))) for name in names)

    def among(self, removed: Iterable[str]) -> tuple[str, ...]:
        """Return the levels in a list of removed parts, finest first."""
        asked = set(removed)
        return tuple(name for name in self.names if name in asked)

    def left(self, removed: Iterable[str]) -> tuple[int, ...]:
        """Return the indices of the levels that stay."""
        gone = self.among(removed)
        return tuple(index for index, name in enumerate(self.names) if name not in gone)

    def idle_layers(self, removed: Iterable[str]) -> tuple[int, ...]:
        """Return the numbers of the layers that nothing needs without the levels `removed`."""
        last = len(self.sources) - 1
        needed = {last}
        open_ = [self.sources[last][index] for index in self.left(removed)]
        while open_:
            number = open_.pop()
            if number >= 0 and number not in needed:
                needed.add(number)
                open_ += self.sources[number]
        return tuple(number for number in range(last) if number not in needed)

    def parts(self, removed: Iterable[str]) -> tuple[str, ...]:
        """Return the prefixes (with a dot) of the modules that go with the levels `removed`, taken together."""
        gone = self.among(removed)
        layers = [f"{self.layers}.{number}." for number in self.idle_layers(gone)]
        indices = [self.names.index(name) for name in gone]
        return (*layers, *(f"{self.head}.{branch}.{index}." for branch in self.branches for index in indices))

    @cached_property
    def _parts(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """Levels that can go together -> their `parts`, the fewest first."""
        names = tuple(level.path for level in self.removable)
        sizes = range(1, len(self.names))
        return {chosen: self.parts(chosen) for size in sizes for chosen in combinations(names, size)}

    def carrying(self, modules: Sequence[str]) -> tuple[str, ...]:
        """Return the levels for which modules are there, so that they go with them; none if some stay in any case."""
        names = [f"{module}." for module in modules]
        found = (levels for levels, parts in self._parts.items() if all(name.startswith(parts) for name in names))
        return next(found, ()) if names else ()

    def first_changed(self, removed: Iterable[str]) -> int:
        """Return the number of the first layer that is not as before."""
        return min((*self.idle_layers(removed), len(self.sources) - 1))

    def cells(self, height: int, width: int) -> tuple[int, ...]:
        """Return the predictions of each level on an image of this size in pixels."""
        return tuple((height // stride) * (width // stride) for stride in self.strides)

    def cells_of(self, total: int) -> list[int]:
        """Return the predictions of each level where there are `total` of all."""
        areas = [(max(self.strides) // stride) ** 2 for stride in self.strides]
        return [total * area // sum(areas) for area in areas]

    def places_left(self, removed: Iterable[str], height: int, width: int) -> Tensor:
        """Return the places of predictions, in those of all levels, that stay on an image of this size in pixels."""
        return _places(self.cells(height, width), self.left(removed))


def pyramid_of(model: nn.Module) -> Pyramid | None:
    """Return the levels of a YOLO whose last layer is a stock detection head; None for any other network.

    None, too, where two levels have one stride, hence one name.
    """
    layers: Any = getattr(model, "model", None)
    if not isinstance(layers, nn.Sequential) or not len(layers) or not all(hasattr(m, "f") for m in layers):
        return None
    head: Any = layers[-1]
    kind = next((name for name in HEADS if name == type(head).__name__), None)
    if kind is None or not type(head).__module__.startswith("ultralytics."):
        return None
    if not levels_can_go(installed()):
        return None
    strides = tuple(int(stride) for stride in head.stride)
    if any(stride < 1 or log2(stride) % 1 for stride in strides):
        return None
    names = tuple(f"P{int(log2(stride))}" for stride in strides)
    if len(set(names)) < len(names):
        return None  # no name tells such levels apart
    branches = tuple(
        name for name, child in head._modules.items() if isinstance(child, nn.ModuleList) and len(child) == head.nl
    )
    needed = {None: (), "finest": names[:1], "all": names}[HEADS[kind]]
    sources = tuple(_sources(layer, number) for number, layer in enumerate(layers))
    return Pyramid(f"model.{len(layers) - 1}", "model", names, strides, sources, branches, needed)


def _sources(layer: Any, number: int) -> tuple[int, ...]:
    """Return the numbers of the layers that a layer reads; addresses below 0 count from its own."""
    addresses = [layer.f] if isinstance(layer.f, int) else layer.f
    return tuple(int(address) if address >= 0 else number + int(address) for address in addresses)


def check_levels(pyramid: Pyramid | None, removed: Sequence[str]) -> None:
    """Raise PlanError unless the levels among `removed` can go and at least one stays."""
    gone = () if pyramid is None else pyramid.among(removed)
    if pyramid is None or not gone:
        return
    for name in gone:
        if name in pyramid.needed:
            raise PlanError(f"{name} cannot be removed: the masks of this model are made from it")
    if len(gone) == len(pyramid.names):
        raise PlanError(f"{', '.join(gone)}: these are all levels of the head; at least one must stay")


def remove_levels(model: nn.Module, removed: Sequence[str]) -> nn.Module:
    """Remove the named levels from `model`, in place, and return it. Raises PlanError."""
    pyramid = pyramid_of(model)
    check_levels(pyramid, removed)
    if pyramid is None or not pyramid.among(removed):
        return model
    head: Any = model.get_submodule(pyramid.head)
    left = pyramid.left(removed)
    for branch in pyramid.branches:
        modules = getattr(head, branch)
        for index in reversed(range(len(modules))):
            if index not in left:
                del modules[index]
    head.nl = len(left)
    _restrict_strides(head, left)
    head.f = [pyramid.sources[-1][index] for index in left]
    _drop_layers(model, pyramid, pyramid.idle_layers(removed))
    return model


def _restrict_strides(head: Any, left: Sequence[int]) -> None:
    """Keep the strides of some levels, and forget the anchors of the last image."""
    head.stride = head.stride[list(left)].clone()
    head.shape = None
    head.anchors, head.strides = head.anchors.new_empty(0), head.strides.new_empty(0)


def _drop_layers(model: Any, pyramid: Pyramid, idle: Sequence[int]) -> None:
    """Delete layers that nothing reads, and renumber the rest as Ultralytics' `parse_model` would."""
    layers = model.get_submodule(pyramid.layers)
    numbers = {-1: -1}
    for number, layer in enumerate(layers):
        if number not in idle:
            layer.i = numbers[number] = len(numbers) - 1
    for number in reversed(idle):
        del layers[number]
    for layer in layers:
        if isinstance(layer.f, int):
            layer.f = _address(layer.f, layer.i, numbers)
        else:
            layer.f = [_address(address, layer.i, numbers) for address in layer.f]
    read = {a for layer in layers for a in ([layer.f] if isinstance(layer.f, int) else layer.f) if a != -1}
    model.save = sorted(read)


def _address(address: int, reader: int, numbers: Mapping[int, int]) -> int:
    """Return the new address of a layer: -1, the one before, stays, since it is there as long as its reader is."""
    if address == -1:
        return -1
    old = next(old for old, new in numbers.items() if new == reader)
    return numbers[address if address >= 0 else old + address]


class _WithoutLevels:
    """Replaces the `forward_head` of a whole head: every level predicts, the predictions of some are left out."""

    def __init__(self, head: Any, left: Sequence[int]) -> None:
        self.head, self.left = head, tuple(left)

    def __call__(self, x: list[Tensor], *modules: Any, **named: Any) -> dict[str, Any]:
        found: dict[str, Any] = type(self.head).forward_head(self.head, x, *modules, **named)
        places = _places([feature.shape[-2] * feature.shape[-1] for feature in x], self.left).to(x[0].device)
        kept = {name: value[..., places] for name, value in found.items() if name != "feats"}
        return {**kept, **({"feats": [x[index] for index in self.left]} if "feats" in found else {})}


def _places(cells: Sequence[int], left: Sequence[int]) -> Tensor:
    starts = [sum(cells[:index]) for index in range(len(cells))]
    return torch.cat([torch.arange(starts[index], starts[index] + cells[index]) for index in left])


def silence_levels(model: nn.Module, removed: Sequence[str]) -> nn.Module:
    """Leave the predictions of the named levels out, in place: equals `remove_levels` in output, at full size."""
    pyramid = pyramid_of(model)
    check_levels(pyramid, removed)
    if pyramid is not None and pyramid.among(removed):
        head: Any = model.get_submodule(pyramid.head)
        left = pyramid.left(removed)
        _restrict_strides(head, left)
        head.forward_head = _WithoutLevels(head, left)
    return model
