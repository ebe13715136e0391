"""Coupled channels of a traced model, and the cost of each.

Symbols: n rows, G groups, F features of a latency model.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn

from pruning.cost import Cost, CostModel, Floats
from pruning.importance import Scores, score
from pruning.structure.block_removal import RemovableBlock, removable_blocks
from pruning.structure.fingerprint import fingerprint
from pruning.structure.level_removal import Pyramid, RemovableLevel, pyramid_of
from pruning.structure.slice_template import SliceTemplate
from pruning.trace.export import walked
from pruning.trace.groups import Group, GroupTable, Ints, build_groups


@dataclass(frozen=True)
class TracedChannels:
    """Coupled channels of a model and what they cost. Plain data; pickles without the model."""

    groups: tuple[Group, ...]
    table: GroupTable = field(repr=False)
    costs: CostModel = field(repr=False)
    unsupported: tuple[str, ...]
    example_shape: tuple[int, ...]
    fingerprint: str
    blocks: tuple[RemovableBlock, ...] = ()
    pyramid: Pyramid | None = None
    model: nn.Module | None = field(default=None, repr=False, compare=False)
    slice_templates: list[SliceTemplate] = field(default_factory=list, repr=False, compare=False)  # at most one

    @property
    def free(self) -> tuple[Group, ...]:
        """Groups that can be pruned."""
        return tuple(group for group in self.groups if group.frozen is None)

    @property
    def attention(self) -> dict[str, int]:
        """Attention blocks whose heads can be removed, with their number of heads."""
        return {block: len(members) for block, members in self.table.heads.items()}

    def stages(self) -> dict[str, tuple[str, ...]]:
        """Free groups by stage of the network (a run of layers at one resolution; the head is its own), in order."""
        found: dict[str, list[str]] = {}
        for group in self.free:
            found.setdefault(group.stage, []).append(group.name)
        return {stage: tuple(names) for stage, names in found.items()}

    def score(self, model: nn.Module, importance: str = "l2") -> Scores:
        """Score every removable channel of `model` by a data-free criterion (see `pruning.importance`)."""
        return score(self.table, model, importance)

    def cost(self) -> Cost:
        """Cost of the unpruned model."""
        return self.costs.of_widths(self.table.full_widths())

    @property
    def levels(self) -> tuple[RemovableLevel, ...]:
        """Detection levels that can be removed, finest first; none of a network without such a head."""
        return () if self.pyramid is None else self.pyramid.removable

    @cached_property
    def levels_of_groups(self) -> tuple[tuple[str, ...], ...]:
        """For every group the detection levels with which it goes, all together; none if it stays in any case."""
        return tuple(() if self.pyramid is None else self.pyramid.carrying(group.layers) for group in self.groups)

    def groups_gone_with_levels(self, removed: Sequence[str]) -> list[int]:
        """Return the numbers of the groups that go with the levels among `removed`."""
        if self.pyramid is None or not self.pyramid.among(removed):
            return []
        return [n for n, levels in enumerate(self.levels_of_groups) if levels and set(levels) <= set(removed)]

    def costs_without(self, removed: Sequence[str]) -> CostModel:
        """Return the cost model without the named blocks and levels."""
        readers = {block.path: block.reader for block in self.blocks}
        blocks = {path: readers[path] for path in removed if path in readers}
        costs = self.costs.without(blocks, self.table) if blocks else self.costs
        if self.pyramid is None or not self.pyramid.among(removed):
            return costs
        cells = self.pyramid.cells(*self.example_shape[-2:])
        left = sum(cells[index] for index in self.pyramid.left(removed))
        return costs.without_parts(self.pyramid.parts(removed), {f"{self.pyramid.head}.dfl.": left / sum(cells)})

    def free_mac_share(self) -> float:
        """Share of the model's MACs that lie in layers which some free group can shrink, 0 to 1."""
        free = np.array([group.frozen is None for group in self.groups])
        return self.costs.share_touching(free, self.table.full_widths())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "model": None, "slice_templates": []}


def traced_channels(model: nn.Module, example: Tensor) -> TracedChannels:
    """Export `model` on `example` (shape (1, C, H, W)) and find its coupled channels; see `pruning.trace`."""
    working = copy.deepcopy(model).eval()
    tracer = walked(working, example)
    groups, table = build_groups(tracer, working)
    return TracedChannels(
        groups=groups,
        table=table,
        costs=CostModel.build(tracer.products, table, working),
        unsupported=tuple(sorted(tracer.unsupported)),
        example_shape=tuple(example.shape),
        fingerprint=fingerprint(working),
        blocks=removable_blocks(working),
        pyramid=pyramid_of(working),
        model=model,
    )


def work_of(graph: TracedChannels, widths: Ints, removed: tuple[str, ...] = (), tile: int = 1) -> Floats:
    """Return the work (n, F), in the unpruned model's columns, at group widths (n, G) rounded up to whole tiles."""
    names, values = graph.costs_without(removed).work(tiled(widths, tile))
    columns = {name: number for number, name in enumerate(names)}
    zeros = np.zeros(len(values))
    return np.stack([values[:, columns[n]] if n in columns else zeros for n in feature_names(graph)], axis=1)


def tiled(widths: Ints, tile: int) -> Ints:
    """Round widths up to whole tiles, the unit in which kernels process channels."""
    return widths if tile == 1 else np.asarray(-(-widths // tile) * tile)


def feature_names(graph: TracedChannels) -> tuple[str, ...]:
    """Names (F,) of the features that a latency model of this network is fitted on."""
    return graph.costs.work(graph.table.full_widths()[None])[0]
