"""Probes: parts vary independently, what is timed is kept, and the model finds the tiles that kernels work in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pruning.channels import work_of
from pruning.cost import place_of
from search.config.sections import SpaceSpec
from search.prepare import latency_probes
from search.prepare.latency_probes import Probe, RefittedCosts, designed, fitted, timed_probes
from search.propose.costs import WidthCost, expected_shares
from search.propose.guided import Timed
from search.space import Space
from tests.pruning import zoo

NAME = "yolov8n.yaml"


def true_ratio(graph: Any, widths: Any, tile: int) -> Any:
    """Time as nobody expects it: early parts take three times their share, and kernels see whole tiles."""
    full = graph.table.full_widths()[None]
    shares = expected_shares(graph) * np.linspace(3.0, 0.5, len(expected_shares(graph)))
    return 0.2 + 0.8 * (work_of(graph, widths, tile=tile) / work_of(graph, full, tile=tile)) @ (shares / shares.sum())


def shapes(graph: Any, count: int, seed: int) -> Any:
    space = Space.from_graph(graph, SpaceSpec(ratio=(0.0, 0.8), groups="each"), (64,))
    scores = graph.score(zoo.build(NAME))
    return np.array(
        [
            list(p.widths.values())
            for p in latency_probes.plans_of(graph, space, scores, 4, designed(space, count, seed))
        ]
    )


def test_parts_of_the_network_vary_independently() -> None:
    graph = zoo.traced(NAME)
    space = Space.from_graph(graph, SpaceSpec(ratio=(0.0, 0.8), groups="each"), (64,))
    drawn = designed(space, 40, 0)
    assert drawn == designed(space, 40, 0) and drawn != designed(space, 40, 1)
    places = {place_of(d.groups[0]) for d in space.dimensions}
    means = np.array(
        [
            [
                np.mean([c.ratios[d.name] for d in space.dimensions if place_of(d.groups[0]) == place])
                for place in places
            ]
            for c in drawn
        ]
    )
    apart = np.corrcoef(means.T)[np.triu_indices(len(places), 1)]
    assert means.min() < 0.1 and means.max() > 0.7
    assert np.abs(apart).mean() < 0.25


@pytest.mark.parametrize("tile", [1, 16])
def test_the_tile_of_the_kernels_is_found(tile: int) -> None:
    graph = zoo.traced(NAME)
    seen, new = shapes(graph, 60, 0), shapes(graph, 40, 1)
    ratios = true_ratio(graph, seen, tile)
    model = fitted(graph, [Probe(tuple(w), (), r) for w, r in zip(seen.tolist(), ratios.tolist(), strict=True)])
    off = model.predict(work_of(graph, new, tile=model.tile)) / true_ratio(graph, new, tile) - 1
    assert model.tile == tile
    assert float(np.abs(off).mean()) < 0.03


def test_trials_correct_the_costs_where_they_were_wrong() -> None:
    """Twelve random shapes and then shapes of one kind: their cost is known much better afterwards."""
    graph = zoo.traced(NAME)
    first, narrow = shapes(graph, 12, 0), np.minimum(shapes(graph, 12, 2), graph.table.full_widths() // 2 + 1)
    known = [Probe(tuple(w), (), float(r)) for w, r in zip(first.tolist(), true_ratio(graph, first, 16), strict=True)]
    relearned = RefittedCosts(graph, tuple(known))
    truth = true_ratio(graph, narrow, 16)
    timed = [Timed(tuple(w), (), float(r)) for w, r in zip(narrow[:8].tolist(), truth[:8], strict=True)]
    costs = np.array([relearned.measured(Timed(tuple(w), (), float(r))) for w, r in zip(narrow, truth, strict=True)])

    def error(cost: WidthCost) -> float:
        return float(np.abs(cost(narrow[8:], ()) / costs[8:] - 1).mean())

    assert error(relearned.costs(timed)) < 0.6 * error(relearned.costs([]))


def test_what_was_timed_is_not_timed_again(tmp_path: Path) -> None:
    plans: Any = [SimpleNamespace(widths={"a": width}, removed=()) for width in (8, 4, 8)]
    calls: list[int] = []

    def time_plan(plan: Any, seed: int) -> Any:
        calls.append(plan.widths["a"])
        return SimpleNamespace(ratio=SimpleNamespace(value=plan.widths["a"] / 8), flags=("drift",))

    first = timed_probes(plans, time_plan, tmp_path)
    assert [probe.ratio for probe in first] == [1.0, 0.5] and calls == [8, 4]
    again = timed_probes(plans[1:2], time_plan, tmp_path)
    assert again == first[1:] and calls == [8, 4]
