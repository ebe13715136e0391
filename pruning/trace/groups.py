"""Build the group table from labels: names, members, sizes, ties, and why a group is frozen.

A *unit* is a connected component of coupled atoms: the smallest set of slices that is removed together. Units that
touch the same dimensions of the same tensors equally often form a *group*; any number of its units can go. A *tie*
joins groups that must keep the same share: the halves of a chunk, the heads of an attention block and the stream
that they add to. With w the width of a tie (1 to n, n = greatest common divisor of the sizes), a group of size s
keeps s / n * w channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import nn

from pruning.structure.block_widths import block_of
from pruning.trace.tracer import Slot, Tracer

Ints = npt.NDArray[np.int64]

OUTPUT = "output of the model"
INPUT = "input of the model"


@dataclass(frozen=True)
class Group:
    """Coupled channels that are removed by number: `size` units, produced by `layers`.

    `tie` names the groups that keep the same share (None: none); `frozen` is the reason why none can be removed.
    """

    name: str
    size: int
    layers: tuple[str, ...]
    stage: str
    tie: str | None = None
    frozen: str | None = None


class Tie(NamedTuple):
    """Groups that keep the same share: `widths` are possible; the largest member has `units` (`channels`) per width."""

    members: list[int]
    widths: int
    units: int
    channels: int


@dataclass(frozen=True)
class GroupTable:
    """Unit of each index of each tensor dimension. Units are numbered group by group.

    `slots[name, dim]` holds the unit of every index; `outputs` are the slots that layers produce; `starts[g] : starts[g
    + 1]` are the units of group g; `ties[g]` is the tie's number; `steps[g]` the channels of group g per width of its
    tie; `heads` are the groups of each head of an attention block whose heads shrink evenly.
    """

    names: tuple[str, ...]
    slots: Mapping[Slot, Ints]
    outputs: tuple[Slot, ...]
    starts: Ints
    ties: Ints
    steps: Ints
    channels: Ints = field(repr=False)  # channels of the first layer per unit (heads: more than one)
    heads: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def alike(self) -> tuple[tuple[Ints, tuple[Slot, ...]], ...]:
        """Slots that hold the same units index by index (a filter and its norm's four vectors), with those units."""
        found: dict[bytes, tuple[Ints, list[Slot]]] = {}
        for slot, units in self.slots.items():
            found.setdefault(units.tobytes(), (units, []))[1].append(slot)
        return tuple((units, tuple(slots)) for units, slots in found.values())

    @cached_property
    def tied(self) -> Mapping[int, Tie]:
        """Ties by number."""
        full = self.full_widths()
        found = {}
        for tie in np.unique(self.ties):
            inside = np.flatnonzero(self.ties == tie)
            steps = self.steps[inside]
            channels = int((steps * self.channels[inside]).max())
            found[int(tie)] = Tie(inside.tolist(), int(full[inside[0]] // steps[0]), int(steps.max()), channels)
        return found

    @cached_property
    def tie_list(self) -> list[int]:
        """`ties` as a list, which a loop reads faster."""
        return [int(tie) for tie in self.ties]

    @cached_property
    def step_list(self) -> list[int]:
        """`steps` as a list."""
        return [int(step) for step in self.steps]

    @cached_property
    def places(self) -> Ints:
        """(units,) index of every unit in its group."""
        return np.arange(int(self.starts[-1])) - np.repeat(self.starts[:-1], self.full_widths())

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Group numbers by name."""
        return {name: number for number, name in enumerate(self.names)}

    def full_widths(self) -> Ints:
        """Return the width of every group before pruning."""
        return np.diff(self.starts)

    def index(self, name: str) -> int:
        """Return the number of a group."""
        return self.names.index(name)


class _Units:
    """Unit of each atom, and the slots that each unit touches."""

    def __init__(self, tracer: Tracer) -> None:
        self.of_atom = _components(tracer)
        self.slots = {slot: self.of_atom[vector.numpy()] for slot, vector in tracer.slots.items()}
        self.frozen: dict[int, str] = {int(self.of_atom[0]): "made by no layer"}  # what is read but has no label
        for reason, atoms in sorted(tracer.frozen, key=lambda item: item[0] != OUTPUT):
            for unit in np.unique(self.of_atom[atoms.numpy()]):
                self.frozen.setdefault(int(unit), reason)
        self.touches: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, units in enumerate(self.slots.values()):
            for unit, count in zip(*np.unique(units, return_counts=True), strict=True):
                self.touches[int(unit)].append((number, int(count)))
        self.heads: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, partition in enumerate(tracer.partitions):
            for place, piece in enumerate(partition.pieces if partition.separate else ()):
                for unit in np.unique(self.of_atom[piece.numpy()]):
                    self.heads[int(unit)].append((number, place))

    def signature(self, unit: int) -> tuple[object, ...]:
        return (*self.touches[unit], *self.heads.get(unit, ()), self.frozen.get(unit))


def _components(tracer: Tracer) -> Ints:
    first = np.concatenate([a.numpy().ravel() for a, _ in tracer.meetings] or [np.zeros(0, np.int32)])
    second = np.concatenate([b.numpy().ravel() for _, b in tracer.meetings] or [np.zeros(0, np.int32)])
    links = coo_matrix((np.ones(first.size, np.int8), (first, second)), shape=(tracer.size, tracer.size))
    _, component = connected_components(links, directed=False)
    return np.asarray(component, dtype=np.int64)


def build_groups(tracer: Tracer, model: nn.Module) -> tuple[tuple[Group, ...], GroupTable]:
    """Group the traced channels of `model`, join ties, name everything, and renumber units group by group."""
    units = _Units(tracer)
    order = _first_places(tracer, units)
    members: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for unit in order:
        members[units.signature(unit)].append(unit)
    lists = list(members.values())
    reasons: list[str | None] = [units.frozen.get(group[0]) for group in lists]
    group_of = {unit: g for g, group in enumerate(lists) for unit in group}
    ties = _ties(tracer, units, group_of, lists, reasons, model)
    return _table(tracer, units, lists, order, reasons, ties)


def _first_places(tracer: Tracer, units: _Units) -> dict[int, tuple[str, int]]:
    """Map each unit to the (layer, index) that first produces it, in network order."""
    places: dict[int, tuple[str, int]] = {}
    outputs = [(layer, slot) for layer, (slot, _) in tracer.producers.items()]
    others = [(name.rpartition(".")[0] or name, (name, dim)) for name, dim in units.slots]
    for layer, slot in [*outputs, *others]:
        for index, unit in enumerate(units.slots[slot]):
            first = "input" if units.frozen.get(int(unit)) == INPUT else layer
            places.setdefault(int(unit), (first, index))
    return places


def _ties(
    tracer: Tracer,
    units: _Units,
    group_of: Mapping[int, int],
    lists: Sequence[Sequence[int]],
    reasons: list[str | None],
    model: nn.Module,
) -> list[int]:
    """Return the tie number of each group. Groups that cannot keep equal counts are frozen, with all of their tie."""
    joined: list[tuple[int, int]] = []
    for partition in tracer.partitions:
        pieces = [_groups_of(units.of_atom[p.numpy()], group_of) for p in partition.pieces]
        joined += _join_pieces(pieces, lists, reasons, f"pieces of unequal make-up in {partition.where}")
    for wide, narrow, where in _equal_inputs(units, model):
        joined += _join_sum(_groups_of(wide, group_of), _groups_of(narrow, group_of), lists, reasons, where)
    links = np.array(joined or np.zeros((0, 2)), dtype=np.int64).reshape(-1, 2)
    size = len(lists)
    _, tie = connected_components(
        coo_matrix((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(size, size)), directed=False
    )
    for number in set(tie.tolist()):
        inside = [g for g in range(size) if tie[g] == number]
        reason = next((reasons[g] for g in inside if reasons[g]), None)
        for g in inside:
            reasons[g] = reasons[g] or (f"tied to a frozen group: {reason}" if reason else None)
    return [int(number) for number in tie]


def _groups_of(unit_vector: Ints, group_of: Mapping[int, int]) -> list[tuple[int, int]]:
    """Return (group, its units) in order of appearance."""
    counts: dict[int, set[int]] = {}
    for unit in unit_vector:
        group = group_of.get(int(unit))
        if group is not None:
            counts.setdefault(group, set()).add(int(unit))
    return [(group, len(found)) for group, found in counts.items()]


def _join_pieces(
    pieces: Sequence[Sequence[tuple[int, int]]],
    lists: Sequence[Sequence[int]],
    reasons: list[str | None],
    where: str,
) -> list[tuple[int, int]]:
    """Return pairs of groups to tie, piece by piece; pieces of different composition are frozen."""
    first = pieces[0]
    sane = all([count for _, count in piece] == [count for _, count in first] for piece in pieces)
    whole = all(count == len(lists[group]) for piece in pieces for group, count in piece)
    same = all(piece == first for piece in pieces)
    if same and len(pieces) > 1:
        return []  # the pieces are coupled unit by unit: equal whatever is removed
    if not (sane and whole):
        _freeze({group for piece in pieces for group, _ in piece}, reasons, where)
        return []
    return [(a, b) for piece in pieces[1:] for (a, _), (b, _) in zip(first, piece, strict=True) if a != b]


def _join_sum(
    wide: Sequence[tuple[int, int]],
    narrow: Sequence[tuple[int, int]],
    lists: Sequence[Sequence[int]],
    reasons: list[str | None],
    where: str,
) -> list[tuple[int, int]]:
    """Tie all groups of both sides, whose total channel counts must stay equal: every group keeps the same share."""
    groups = {group for group, _ in [*wide, *narrow]}
    if any(count != len(lists[group]) for group, count in [*wide, *narrow]):
        _freeze(groups, reasons, where)
        return []
    first = min(groups)
    return [(first, group) for group in groups if group != first]


def _freeze(groups: Iterable[int], reasons: list[str | None], reason: str) -> None:
    for group in groups:
        reasons[group] = reasons[group] or reason


def _equal_inputs(units: _Units, model: nn.Module) -> list[tuple[Ints, Ints, str]]:
    found = []
    for path, module in model.named_modules():
        block = block_of(module)
        if block is None or block.equal_inputs is None:
            continue
        first, second = (units.slots.get((f"{path}.{layer}", 1)) for layer in block.equal_inputs)
        if first is not None and second is not None:
            found.append((first, second, f"heads of unequal make-up in {path}"))
    return found


def _table(
    tracer: Tracer,
    units: _Units,
    lists: Sequence[Sequence[int]],
    places: Mapping[int, tuple[str, int]],
    reasons: Sequence[str | None],
    ties: Sequence[int],
) -> tuple[tuple[Group, ...], GroupTable]:
    names = _names(tracer, units, lists, places)
    stages = _stages(tracer)
    sizes = [len(group) for group in lists]
    tie_size = {tie: gcd(*(s for s, t in zip(sizes, ties, strict=True) if t == tie)) for tie in ties}
    tie_names = {tie: _tie_name(tie, ties, names) for tie in set(ties)}
    renumber = np.full(int(units.of_atom.max()) + 1, -1, dtype=np.int64)
    renumber[np.concatenate([np.array(group, dtype=np.int64) for group in lists])] = np.arange(sum(sizes))
    groups = tuple(
        Group(
            name=names[g],
            size=sizes[g],
            layers=_layers(tracer, units, set(group)),
            stage=_stage(stages, places[lists[ties.index(ties[g])][0]][0]),  # that of the first group of its tie
            tie=tie_names[ties[g]],
            frozen=reasons[g],
        )
        for g, group in enumerate(lists)
    )
    table = GroupTable(
        names=tuple(names),
        slots={slot: renumber[vector] for slot, vector in units.slots.items()},
        outputs=tuple(slot for slot, _ in tracer.producers.values()),
        starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        ties=np.array(ties, dtype=np.int64),
        steps=np.array([s // tie_size[t] for s, t in zip(sizes, ties, strict=True)], dtype=np.int64),
        channels=np.array([_channels(units, group[0]) for group in lists], dtype=np.int64),
        heads=_heads(tracer, units, lists, reasons),
    )
    return groups, table


def _heads(
    tracer: Tracer, units: _Units, lists: Sequence[Sequence[int]], reasons: Sequence[str | None]
) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Map attention block -> groups of each of its heads (keys and queries, values), without frozen blocks."""
    group_of = {unit: g for g, group in enumerate(lists) for unit in group}
    found = {}
    for partition in tracer.partitions:
        if partition.separate:
            pieces = [_groups_of(units.of_atom[piece.numpy()], group_of) for piece in partition.pieces]
            heads = tuple(tuple(group for group, _ in piece) for piece in pieces)
            if all(reasons[group] is None for head in heads for group in head):
                found[partition.block] = heads
    return found


def _stage(stages: Mapping[str, str], layer: str) -> str:
    return stages.get(layer, _top(layer))


def _channels(units: _Units, unit: int) -> int:
    slots = list(units.slots)
    outputs = [count for number, count in units.touches[unit] if slots[number][1] == 0]
    return min(outputs, default=1)


def _tie_name(tie: int, ties: Sequence[int], names: Sequence[str]) -> str | None:
    inside = [name for name, number in zip(names, ties, strict=True) if number == tie]
    return inside[0] if len(inside) > 1 else None


def _layers(tracer: Tracer, units: _Units, group: set[int]) -> tuple[str, ...]:
    """Return the layers that produce a group's channels, in network order."""
    made = {layer: units.slots[slot].tolist() for layer, (slot, _) in tracer.producers.items()}
    return tuple(layer for layer, vector in made.items() if not group.isdisjoint(vector))


def _names(
    tracer: Tracer, units: _Units, lists: Sequence[Sequence[int]], places: Mapping[int, tuple[str, int]]
) -> list[str]:
    """Name each group by the layer that first produces it, with a channel range if that layer produces several."""
    made: dict[str, list[int]] = defaultdict(list)
    for g, group in enumerate(lists):
        made[places[group[0]][0]].append(g)
    names = [""] * len(lists)
    for layer, inside in made.items():
        short = layer.removesuffix(".conv")
        for g in inside:
            names[g] = short if len(inside) == 1 else f"{short}[{_range(places, lists[g])}]"
    return names


def _range(places: Mapping[int, tuple[str, int]], group: Sequence[int]) -> str:
    indices = [places[unit][1] for unit in group]
    if indices == list(range(indices[0], indices[0] + len(indices))):
        return f"{indices[0]}:{indices[-1] + 1}"
    return ",".join(map(str, indices[:3])) + (",..." if len(indices) > 3 else "")


def _top(layer: str) -> str:
    """Return the top-level block of a layer: 'model.4' of 'model.4.cv1.conv', 'layer1' of 'layer1.0.conv1'."""
    parts = layer.split(".")
    return ".".join(parts[:2]) if parts[0] == "model" and len(parts) > 1 else parts[0]


def _stages(tracer: Tracer) -> dict[str, str]:
    """Map layer -> stage: a run of top-level blocks that end at one resolution.

    The last block (the head) is a stage of its own, or one per resolution that it works at: objects of one size may
    need only one of its levels.
    """
    pixels = {layer: width for layer, (_, width) in tracer.producers.items()}
    extent = {_top(layer): width for layer, width in pixels.items()}  # of a block: that of its last layer
    blocks = list(extent)
    runs: list[list[str]] = []
    for block in blocks[:-1]:
        if runs and extent[runs[-1][-1]] == extent[block]:
            runs[-1].append(block)
        else:
            runs.append([block])
    named: dict[str, str] = {block: _run_name(run) for run in runs for block in run}
    head = [layer for layer in pixels if _top(layer) == blocks[-1]]
    several = len({pixels[layer] for layer in head}) > 1
    for layer in head:
        named[layer] = f"head.stride{tracer.width // max(1, pixels[layer])}" if several else "head"
    return {layer: named[layer] if layer in named else named[_top(layer)] for layer in pixels}


def _run_name(run: Sequence[str]) -> str:
    return run[0] if len(run) == 1 else f"{run[0]}-{run[-1].removeprefix('model.')}"
