"""The cost model and the width rule of a graph as plain data, for use from other languages (the report's JavaScript).

The report recomputes costs while a layer's ratio is dragged, without a server. The table holds the inputs of `cost.py`
and `plan.py`, equal entries merged: about 15 kB of JSON for yolov8n.

    count of column c   = sum of weight * width over its `of`, less the same over `less[b]` for every removed block b
    cost                = sum of factor * count[i] * count[j] over terms whose blocks are all still there
    width of a group    = steps * min(n, max(minimum, ceil(ceil((1 - r) n - 1e-9) / step) * step))

Column 0 is the constant 1. Detection levels are written as blocks: a term that goes only with several of them together
is the sum that gives that (inclusion and exclusion), so factors may be negative.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import ceil, gcd
from typing import Any

import numpy as np

from pruning.channels import TracedChannels
from pruning.cost import Floats, Terms

Form = tuple[tuple[int, float], ...]
"""A linear form over the group widths: ((group number, weight), ...)."""


def cost_table(graph: TracedChannels) -> dict[str, Any]:
    """Return {"groups", "columns": [{"of", "less"?}], "params", "macs": [[factor, i, j, *blocks]], "layers", "blocks",
    "gone"}.

    `layers` names the columns of outputs and inputs of every weight of at least two dimensions; `gone` the detection
    levels, which are among the `blocks`, with all of which such a layer goes.
    """
    columns, places = _columns(graph)
    blocks = [*(block.path for block in graph.blocks), *(level.path for level in graph.levels)]
    params, macs = (
        _terms(terms, [list(_by_level(graph, owner, work)) for owner in owners], owners, places, blocks)
        for terms, owners, work in zip(
            (graph.costs.params, graph.costs.macs), graph.costs.owners, (False, True), strict=True
        )
    )
    layers = _layers(graph, places)
    return {
        "groups": list(graph.table.names),
        "columns": [{"of": of, **({"less": less} if less else {})} for of, less in columns],
        "params": params,
        "macs": macs,
        "layers": layers,
        "blocks": blocks,
        "gone": {name: list(levels) for name in layers if (levels := _carrying(graph, name))},
    }


def width_rule(graph: TracedChannels, round_to: int, min_width: int = 1) -> list[dict[str, Any]]:
    """Return one row per prunable tie: {"groups", "steps", "n", "step", "minimum"}, see `plan.realised_widths`."""
    rows = []
    for members, n, widest, channels in graph.table.tied.values():
        if graph.groups[members[0]].frozen is None:
            names, steps = [graph.groups[g].name for g in members], [int(graph.table.steps[g]) for g in members]
            step, minimum = round_to // gcd(round_to, channels), min(n, ceil(min_width / widest))
            rows.append({"groups": names, "steps": steps, "n": n, "step": step, "minimum": minimum})
    return rows


def _columns(graph: TracedChannels) -> tuple[list[tuple[Form, dict[str, Form]]], list[int]]:
    """Return the distinct columns, and for every column of the cost model (0: the constant 1) the index of its own."""
    less = _narrowed_by_blocks(graph)
    found: dict[Any, int] = {((), ()): 0}
    kept: list[tuple[Form, dict[str, Form]]] = [((), {})]
    places = [0]
    for number in range(graph.costs.per_width.shape[1]):
        form, minus = _form(graph.costs.per_width[:, number]), less.get(number, {})
        key = (form, tuple(minus.items()))
        if key not in found:
            found[key] = len(kept)
            kept.append((form, minus))
        places.append(found[key])
    return kept, places


def _narrowed_by_blocks(graph: TracedChannels) -> Mapping[int, dict[str, Form]]:
    """Map column -> {block: form}: the inputs that a reader loses with each block (`CostModel.without`)."""
    slots = list(graph.table.slots)
    found: dict[int, dict[str, Form]] = {}
    for block in graph.blocks:
        if block.reader is not None:
            without = graph.costs.without({block.path: block.reader}, graph.table)
            lost = graph.costs.per_width - without.per_width
            column = slots.index((f"{block.reader}.cv2.conv.weight", 1))
            found.setdefault(column, {})[block.path] = _form(lost[:, column])
    return found


def _form(weights: Floats) -> Form:
    return tuple((int(g), _plain(weights[g])) for g in np.flatnonzero(weights))


def _plain(number: float) -> float:
    """Return whole numbers as int, for shorter JSON."""
    return int(number) if float(number).is_integer() else float(number)


def _terms(
    terms: Terms,
    by_level: Sequence[Sequence[tuple[float, tuple[str, ...]]]],
    owners: Sequence[str],
    places: Sequence[int],
    blocks: Sequence[str],
) -> list[list[Any]]:
    """Return [factor, i, j, *blocks] with equal products summed; removing one of `blocks` (by index) drops the term."""
    totals: dict[tuple[int, ...], float] = {}
    for factor, left, right, owner, parts in zip(terms.factor, terms.left, terms.right, owners, by_level, strict=True):
        pair = sorted((places[left], places[right]))
        inside = [number for number, path in enumerate(blocks) if owner.startswith(f"{path}.")]
        for share, levels in parts:
            key = (*pair, *inside, *map(blocks.index, levels))
            totals[key] = totals.get(key, 0.0) + float(factor) * share
    return [[_plain(factor), *key] for key, factor in totals.items() if factor]


def _by_level(graph: TracedChannels, owner: str, work: bool) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Yield (share, levels) of a term: the sum over those none of whose levels is removed is what is left of it.

    `work`: MACs, of which the DFL has some for the cells of each level.
    """
    pyramid = graph.pyramid
    if pyramid is not None and graph.levels and work and owner.startswith(f"{pyramid.head}.dfl."):
        cells = dict(zip(pyramid.names, pyramid.cells(*graph.example_shape[-2:]), strict=True))
        yield sum(cells[name] for name in pyramid.needed) / sum(cells.values()), ()
        yield from ((cells[level.path] / sum(cells.values()), (level.path,)) for level in graph.levels)
    elif together := _carrying(graph, owner):
        yield from _unless_all(together)
    else:
        yield 1.0, ()


def _carrying(graph: TracedChannels, name: str) -> tuple[str, ...]:
    return () if graph.pyramid is None else graph.pyramid.carrying([name])


def _unless_all(together: Sequence[str]) -> Iterator[tuple[float, tuple[str, ...]]]:
    """Yield terms that sum to 1 unless all levels are removed: 1 - prod(1 - s) = sum of +-prod(s) over subsets."""
    for size in range(1, len(together) + 1):
        for chosen in combinations(together, size):
            yield float((-1) ** (size + 1)), chosen


def _layers(graph: TracedChannels, places: Sequence[int]) -> dict[str, list[int]]:
    """Map each weight's layer to [column of its outputs, column of its inputs (0: fixed)]."""
    column = {slot: places[number + 1] for number, slot in enumerate(graph.table.slots)}
    weights = [name for name, dim in graph.table.slots if dim == 1 and name.endswith(".weight")]
    outputs = [name for name, dim in graph.table.slots if dim == 0 and name.endswith("conv.weight")]
    names = dict.fromkeys([*outputs, *weights])
    return {n.removesuffix(".weight"): [column.get((n, 0), 0), column.get((n, 1), 0)] for n in names}
