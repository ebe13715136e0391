"""Latency probes: shapes timed before the search to fit the latency model, without training.

First random shapes: every part of the network has a level of its own (a Latin hypercube over the parts: McKay, Beckman
and Conover, Technometrics 21, 1979), so that the parts' times can be told apart. Then the shapes that allocation finds
under each successive model: allocation exploits whatever the model underestimates, so the model must be checked exactly
there. Trials continue this (`RefittedCosts`). Every probe is saved as soon as it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import qmc

from objectives.latency.model import LatencyModel
from objectives.latency.protocol import Latency
from pruning import ChannelGraph, Plan, Scores
from pruning.channels import feature_names, work_of
from pruning.cost import place_of
from search.propose.costs import LatencyCorrection, WidthCost, expected_shares
from search.propose.guided import Timed
from search.run_folder.atomic import write_json
from search.run_folder.quarantine import derived_json
from search.space import Space
from search.trial import Candidate

PROBES = 10
"""Random shapes. Twice as many, and a second round along the ladder, predicted trials no better (docs/search.md)."""
TILES = (1, 8, 16, 32)
"""Channels per tile that are tried; which one, cross-validation says."""
FILE = "probes.json"
MODEL = "model.json"
_SPREAD = 0.1
_REMOVED = 0.2


@dataclass(frozen=True)
class Probe:
    """A timed shape: group widths in the order of the graph, removed blocks, latency ratio to the base, flags.

    `aimed`: chosen by allocation, not at random.
    """

    widths: tuple[int, ...]
    removed: tuple[str, ...]
    ratio: float
    flags: tuple[str, ...] = ()
    aimed: bool = False


def designed(space: Space, count: int, seed: int) -> tuple[Candidate, ...]:
    """Sample candidates: a level for each part of the network, each dimension varied slightly around it."""
    random = np.random.default_rng([seed, 3])
    places = [place_of(dimension.groups[0]) for dimension in space.dimensions]
    names = list(dict.fromkeys(places))
    found = []
    for levels in qmc.LatinHypercube(len(names), rng=random).random(count):
        level = dict(zip(names, levels.tolist(), strict=True))
        ratios = {
            d.name: float(
                np.clip(d.low + level[p] * (d.high - d.low) + _SPREAD * random.standard_normal(), d.low, d.high)
            )
            for d, p in zip(space.dimensions, places, strict=True)
        }
        removed = tuple(block.path for block in space.blocks if random.random() < _REMOVED)
        found.append(Candidate(ratios, space.sizes[0], space.precisions[0], removed))
    return tuple(found)


def timed_probes(
    plans: Sequence[Plan],
    time_plan: Callable[[Plan, int], Latency],
    folder: Path,
    aimed: bool = False,
    on_progress: Callable[[float], None] = lambda share: None,
) -> tuple[Probe, ...]:
    """Time each plan against the base, in their order; those saved in `folder` are not timed again.

    Args:
        time_plan: a plan and the seed of its rounds -> its latency.
    """
    known = {(probe.widths, probe.removed): probe for probe in read_probes(folder)}
    keys = [(tuple(plan.widths.values()), plan.removed) for plan in plans]
    for number, (key, plan) in enumerate(zip(keys, plans, strict=True)):
        if key not in known:
            found = time_plan(plan, number)
            known[key] = Probe(*key, found.ratio.value, tuple(found.flags), aimed)
            _write(folder, known.values())
        on_progress((number + 1) / len(plans))
    return tuple(known[key] for key in dict.fromkeys(keys))


def fitted(graph: ChannelGraph, probes: Sequence[Probe]) -> LatencyModel:
    """Fit the latency model of a network to its probes, with the tile that cross-validates best.

    Raises:
        ObjectiveError: too few probes.
    """
    return min((_fitted(graph, probes, tile) for tile in TILES), key=lambda model: model.residual)


def _fitted(graph: ChannelGraph, probes: Sequence[Probe], tile: int) -> LatencyModel:
    base = work_of(graph, graph.table.full_widths()[None], tile=tile)[0]
    work = np.zeros((len(probes), len(base)))
    for removed in dict.fromkeys(probe.removed for probe in probes):
        rows = [number for number, probe in enumerate(probes) if probe.removed == removed]
        work[rows] = work_of(graph, np.array([probes[row].widths for row in rows]), removed, tile)
    ratios = [probe.ratio for probe in probes]
    return LatencyModel.fit(feature_names(graph), base, work, ratios, expected_shares(graph), tile)


def fit_correction(graph: ChannelGraph, model: LatencyModel, probes: Sequence[Probe]) -> LatencyCorrection | None:
    """Fit the correction from the shapes that allocation chose; None before the first."""
    aimed = [probe for probe in probes if probe.aimed]
    work = [work_of(graph, np.array([probe.widths]), probe.removed, model.tile)[0] for probe in aimed]
    return LatencyCorrection.through(model.predict(work), np.array([probe.ratio for probe in aimed])) if aimed else None


@dataclass(frozen=True)
class RefittedCosts:
    """Costs under a latency model fitted to the probes and to the trials so far (`CostRefitter`)."""

    graph: ChannelGraph
    probes: tuple[Probe, ...]
    _plain: WidthCost = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_plain", WidthCost(self.graph))

    def costs(self, timed: Sequence[Timed]) -> WidthCost:
        all_probes = (*self.probes, *(Probe(one.widths, one.removed, one.ratio, aimed=True) for one in timed))
        model = fitted(self.graph, all_probes)
        return WidthCost(self.graph, model, fit_correction(self.graph, model, all_probes))

    def measured(self, timed: Timed) -> float:
        return self._plain.measured(np.array(timed.widths), timed.removed, timed.ratio)


def plans_of(
    graph: ChannelGraph, space: Space, scores: Scores, round_to: int, candidates: Sequence[Candidate]
) -> tuple[Plan, ...]:
    """Return the plans of candidates."""
    return tuple(
        graph.plan(space.group_ratios(one), scores, round_to=round_to, removed=one.removed) for one in candidates
    )


def read_probes(folder: Path) -> tuple[Probe, ...]:
    """Load saved probes; none if the file is missing or damaged."""
    rows = derived_json(folder / FILE).get("probes", ())
    return tuple(
        Probe(
            tuple(row["widths"]),
            tuple(row["removed"]),
            float(row["ratio"]),
            tuple(row["flags"]),
            bool(row.get("aimed", False)),
        )
        for row in rows
    )


def write_model(folder: Path, model: LatencyModel) -> None:
    """Write latency/model.json, which the report's what-if view reads."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / MODEL, {"format": 1, **model.to_json()}, durable=False)


def read_model(folder: Path) -> LatencyModel | None:
    """Load the fitted model; None if missing or damaged."""
    found = derived_json(folder / MODEL)
    return LatencyModel.from_json(found) if found else None


def _write(folder: Path, probes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [asdict(probe) for probe in probes]
    write_json(folder / FILE, {"format": 1, "probes": rows}, durable=False)
