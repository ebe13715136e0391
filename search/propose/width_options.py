"""Build an allocator from a traced model: the width options of each dimension, and their prices.

Only this module and costs.py read the graph: allocation itself works on options and a cost function.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from objectives.latency.model import LatencyModel
from pruning import ChannelGraph
from pruning.plan import realised_widths
from pruning.sensitivity import Curve
from search.propose.allocation import Allocator, Removal, WidthOptions, removal_of, width_options_of
from search.propose.costs import LatencyCorrection, WidthCost
from search.space import Dimension, Space


def allocator_of(
    graph: ChannelGraph,
    space: Space,
    curves: Mapping[str, Curve],
    round_to: int,
    latency: LatencyModel | None = None,
    correction: LatencyCorrection | None = None,
) -> Allocator:
    """Return the allocator of a space with one dimension per tie of groups, from its parts' sensitivity curves."""
    stages = {group.name: group.stage for group in graph.groups}
    dims = tuple(_options(graph, d, curves[d.name], round_to, stages[d.groups[0]]) for d in space.dimensions)
    removals = tuple(_removal(space, block.path, block.parameter, curves, stages) for block in space.blocks)
    return Allocator(space, dims, removals, graph.table.full_widths(), WidthCost(graph, latency, correction))


def _options(graph: ChannelGraph, dimension: Dimension, curve: Curve, round_to: int, stage: str) -> WidthOptions:
    """Return every width that the dimension can have within its bounds, found by requesting each possible share."""
    columns = [graph.table.numbers[name] for name in dimension.groups]
    ties = {int(graph.table.ties[column]) for column in columns}
    full = graph.table.full_widths()
    found: dict[tuple[int, ...], float] = {}
    most = int(max(full[column] for column in columns))
    for kept in range(most, 0, -1):
        ratio = 1 - kept / most
        if dimension.low <= ratio <= dimension.high:
            widths = realised_widths(graph, dict.fromkeys(ties, ratio), round_to, 1)
            found.setdefault(tuple(int(widths[column]) for column in columns), ratio)
    shares = [1 - sum(widths) / sum(int(full[c]) for c in columns) for widths in found]
    prices = Curve.through([(share, curve.at(share)) for share in shares if share > 0])
    options = width_options_of(dimension.name, columns, list(found), shares, prices, stage)
    return WidthOptions(
        options.name, options.columns, options.widths, np.array(list(found.values())), options.prices, stage
    )


def _removal(
    space: Space, path: str, parameter: str, curves: Mapping[str, Curve], stages: Mapping[str, str]
) -> Removal:
    block = next(block for block in space.blocks if block.path == path)
    stage = stages[block.groups[0]] if block.groups else path
    return removal_of(space, path, curves[parameter].at(1.0), stage)
