"""Shapes timed before the search, to fit the latency model: no weights are trained, only widths matter.

Widths are drawn at random around levels that span the space, so that the parts of the network vary independently of
each other. Every probe is written down when it is measured; the model is fitted to all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from objectives.latency import Latency
from objectives.latency_model import LatencyModel
from pruning import ChannelGraph, Plan, Scores
from search.atomic import write_json
from search.propose.menus import expected_shares, feature_names, work_of
from search.space import Space
from search.trial import Candidate

PROBES = 24
FILE = "probes.json"
MODEL = "model.json"
_SPREAD = 0.25
_REMOVED = 0.15


@dataclass(frozen=True)
class Probe:
    """A timed shape: group widths in the order of the graph, removed blocks, latency ratio to the base, flags."""

    widths: tuple[int, ...]
    removed: tuple[str, ...]
    ratio: float
    flags: tuple[str, ...] = ()


def designed(space: Space, count: int, seed: int) -> tuple[Candidate, ...]:
    """Random candidates at levels spread evenly over the ratios."""
    random = np.random.default_rng([seed, 3])
    low, high = min(d.low for d in space.dimensions), max(d.high for d in space.dimensions)
    found = []
    for level in random.permutation(np.linspace(low, high, count)):
        draws = level + _SPREAD * random.standard_normal(len(space.dimensions))
        ratios = {d.name: float(np.clip(r, d.low, d.high)) for d, r in zip(space.dimensions, draws, strict=True)}
        removed = tuple(block.path for block in space.blocks if random.random() < _REMOVED)
        found.append(Candidate(ratios, space.sizes[0], space.precisions[0], removed))
    return tuple(found)


def timed_probes(
    plans: Sequence[Plan],
    time_plan: Callable[[Plan, int], Latency],
    folder: Path,
    on_progress: Callable[[float], None] = lambda share: None,
) -> tuple[Probe, ...]:
    """Time each plan against the base; what `folder` holds already is not timed again.

    Args:
        time_plan: a plan and the seed of its rounds -> its latency.
    """
    known = {(probe.widths, probe.removed): probe for probe in read_probes(folder)}
    for number, plan in enumerate(plans):
        key = (tuple(plan.widths.values()), plan.removed)
        if key not in known:
            found = time_plan(plan, number)
            known[key] = Probe(*key, found.ratio.value, tuple(found.flags))
            _write(folder, known.values())
        on_progress((number + 1) / len(plans))
    return tuple(known.values())


def fitted(graph: ChannelGraph, probes: Sequence[Probe]) -> LatencyModel:
    """The latency model of a network from its probes; ObjectiveError where they are too few."""
    base = work_of(graph, graph.table.full_widths()[None])[0]
    rows = [work_of(graph, np.array([probe.widths]), probe.removed)[0] for probe in probes]
    ratios = [probe.ratio for probe in probes]
    return LatencyModel.fit(feature_names(graph), base, np.array(rows), ratios, expected_shares(graph))


def plans_of(
    graph: ChannelGraph, space: Space, scores: Scores, round_to: int, candidates: Sequence[Candidate]
) -> tuple[Plan, ...]:
    """The plans of candidates."""
    return tuple(
        graph.plan(space.group_ratios(one), scores, round_to=round_to, removed=one.removed) for one in candidates
    )


def read_probes(folder: Path) -> tuple[Probe, ...]:
    """Probes written earlier; none where there is no file."""
    path = folder / FILE
    if not path.is_file():
        return ()
    rows = json.loads(path.read_text())["probes"]
    return tuple(
        Probe(tuple(row["widths"]), tuple(row["removed"]), float(row["ratio"]), tuple(row["flags"])) for row in rows
    )


def write_model(folder: Path, model: LatencyModel) -> None:
    """latency/model.json: the page's what-if predicts with it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MODEL, {"format": 1, **model.to_json()}, durable=False)


def read_model(folder: Path) -> LatencyModel | None:
    """The fitted model; None before it was fitted."""
    path = folder / MODEL
    return LatencyModel.from_json(json.loads(path.read_text())) if path.is_file() else None


def _write(folder: Path, probes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"widths": p.widths, "removed": p.removed, "ratio": p.ratio, "flags": p.flags} for p in probes]
    write_json(folder / FILE, {"format": 1, "probes": rows}, durable=False)
