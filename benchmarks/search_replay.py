"""Every sampler on the same landscape, with equal simulated wall-clock: hypervolume over time.

    python benchmarks/search_table.py --plans 300      # once: the measured plans (committed; takes hours)
    python benchmarks/search_replay.py --json benchmarks/data/replay.json --picture docs/search-replay.svg

The landscape is fitted to the measured plans of the digits study (search_table.py): accuracy after the fine-tune and
divergence before it by boosted trees on widths, removed blocks and prices (Friedman, Annals of Statistics 29, 2001);
latency by a latency model of the shapes that the table has timed, which is not the one that `auto` sees.
Its errors on plans that were left out are printed. Trees do not extrapolate: no sampler can find what no plan showed.

Time is simulated: what a trial, a screened candidate and the preparation of `auto` take was measured (`SECONDS`). Each
sampler searches the space that the product gives it: one ratio a stage, one a group for `auto`. Sweeps take ever finer
levels. A search ends when its time is used up; whatever it has is its front. Volume is that of (accuracy, latency),
each as a share of the base's, with no accuracy and 1.05 times the base's latency as the worst corner.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau
from search_table import ROOT, prepared_study, rows_of, sweep
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import cross_val_predict

from objectives.latency.model import LatencyModel
from objectives.objective import Estimate, objectives_named
from pruning.channels import work_of
from search.config.sections import SpaceSpec
from search.prepare.latency_probes import Probe, fitted
from search.prepare.prepared import Prepared
from search.propose.front_area import added_volume
from search.propose.initial_candidates import opening
from search.propose.optuna_backend.storage import sqlite_url
from search.propose.optuna_proposer import OptunaProposer
from search.space import Space
from search.trial import Candidate, Measurement, ScreeningLimit

SWEEPS = ("uniform", "global")
LEVELS = 2000
METHODS = ("auto", "tpe", "nsga2", "qmc", "random", "uniform", "global")
SECONDS = {"fixed": 5.0, "training": 16.0, "screened": 1.5, "preparation": 150.0}
"""A trial of the digits study at one epoch on one core: 5 s of latency, validation and the like, 16 s of training at
the base's MACs, of which a third does not shrink with them; 1.5 s for a candidate that is screened; sensitivity and
probes of `auto` before its first trial. Measured in `make demo`; the phases are in every result.json."""
HORIZON_S = 2400.0
CHECKPOINTS = (0.125, 0.25, 0.5, 0.75, 1.0)
NOISE = {"accuracy": 0.006, "latency": 0.004, "divergence": 0.02}
"""Standard deviations of a repeated measurement: of mAP50-95, and relative ones."""


@dataclass(frozen=True)
class Landscape:
    """What plans would measure, from those that were measured."""

    prepared: Prepared
    accuracy: GradientBoostingRegressor
    divergence: GradientBoostingRegressor
    latency: LatencyModel
    base: float

    @classmethod
    def through(cls, prepared: Prepared, rows: Sequence[dict[str, Any]]) -> Landscape:
        """Fitted to the rows of a table."""
        shown = np.array([_features(prepared, candidate_of(row)) for row in rows])
        base = prepared.base.figures["map50_95"].value
        shares = np.array([row["map"] for row in rows]) / base
        logs = np.log(np.maximum([row["divergence"] for row in rows], 1e-4))
        accuracy, divergence = (_boosted().fit(shown, y) for y in (shares, logs))
        return cls(prepared, accuracy, divergence, _true_latency(prepared, rows), base)

    def measured(
        self, candidate: Candidate, noise: np.random.Generator, screening: ScreeningLimit | None
    ) -> tuple[Measurement, float]:
        """What the candidate measures, and the simulated seconds that it takes."""
        candidate = _each(self.prepared, candidate)
        graph = next(iter(self.prepared.evaluator.graphs.values()))  # type: ignore[attr-defined]
        plan = self.prepared.evaluator.plan(candidate)  # type: ignore[attr-defined]
        features = _features(self.prepared, candidate)[None]
        divergence = float(np.exp(self.divergence.predict(features)[0] + NOISE["divergence"] * noise.standard_normal()))
        cost = plan.cost()
        widths = np.array([list(plan.widths.values())])
        ratio = float(self.latency.predict(work_of(graph, widths, plan.removed, self.latency.tile))[0])
        ratio *= float(np.exp(NOISE["latency"] * noise.standard_normal()))
        figures = {"params_m": cost.params / 1e6, "latency_ms": ratio * self.prepared.base.figures["latency_ms"].value}
        screened = screening is not None and not screening.admits(divergence)
        if not screened:
            value = self.base * float(self.accuracy.predict(features)[0]) + NOISE["accuracy"] * noise.standard_normal()
            figures["map50_95"] = float(np.clip(value, 0.0, 1.0))
        exact = {name: Estimate.exact(value) for name, value in figures.items()}
        share = cost.macs / graph.cost().macs
        seconds = SECONDS["screened"] if screened else SECONDS["fixed"] + SECONDS["training"] * (1 + 2 * share) / 3
        return Measurement(exact, plan.widths, None, plan.digest, score=divergence, screened=screened), seconds


def candidate_of(row: dict[str, Any]) -> Candidate:
    """The candidate of a row of the table."""
    return Candidate(row["ratios"], 128, "fp32", tuple(row["removed"]))


def _features(prepared: Prepared, candidate: Candidate) -> Any:
    """Kept share of every group, removed blocks, prices by stage and their sum."""
    guide = prepared.guide
    assert guide is not None
    allocator, plan = guide.allocator, prepared.evaluator.plan(candidate)  # type: ignore[attr-defined]
    prices = list(allocator.prices_by_stage(allocator.vector(candidate)).values())
    kept = np.array(list(plan.widths.values())) / allocator.full
    gone = [float(one.path in plan.removed) for one in allocator.removals]
    return np.concatenate([kept, gone, prices, [sum(prices)]])


def _each(prepared: Prepared, candidate: Candidate) -> Candidate:
    """The candidate with one ratio per group, as the guide's space has it."""
    space = prepared.space
    if candidate.ratios.keys() == {d.name for d in space.dimensions}:
        return candidate
    asked = {group: candidate.ratios[d.name] for d in stage_space(prepared).dimensions for group in d.groups}
    return replace(candidate, ratios={d.name: asked[d.groups[0]] for d in space.dimensions})


def stage_space(prepared: Prepared) -> Space:
    """One ratio a stage: what every sampler but `auto` gets from the product."""
    graph = next(iter(prepared.evaluator.graphs.values()))  # type: ignore[attr-defined]
    first = prepared.space.dimensions[0]
    spec = SpaceSpec(ratio=(first.low, first.high), groups="auto", depth=True)
    return Space.from_graph(graph, spec, prepared.space.sizes)


def _boosted() -> GradientBoostingRegressor:
    return GradientBoostingRegressor(n_estimators=300, max_depth=3, learning_rate=0.05, subsample=0.7, random_state=0)


def _true_latency(prepared: Prepared, rows: Sequence[dict[str, Any]]) -> LatencyModel:
    """Fitted to the shapes that the table has timed (`search_table.py --latencies`)."""
    graph = next(iter(prepared.evaluator.graphs.values()))  # type: ignore[attr-defined]
    shapes = [Probe(tuple(row["widths"]), tuple(row["removed"]), row["latency"]) for row in rows if "latency" in row]
    return fitted(graph, shapes)


def errors(prepared: Prepared, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How far the landscape is off on plans that were left out (ten folds)."""
    shown = np.array([_features(prepared, candidate_of(row)) for row in rows])
    maps = np.array([row["map"] for row in rows])
    logs = np.log(np.maximum([row["divergence"] for row in rows], 1e-4))
    said = cross_val_predict(_boosted(), shown, maps, cv=10)
    said_logs = cross_val_predict(_boosted(), shown, logs, cv=10)
    latency = _true_latency(prepared, rows)
    return {
        "accuracy_mae": float(np.mean(np.abs(said - maps))),
        "accuracy_tau": float(kendalltau(said, maps).statistic),
        "divergence_tau": float(kendalltau(said_logs, logs).statistic),
        "latency_residual": latency.residual,
        "latency_tile": latency.tile,
    }


def searched(landscape: Landscape, method: str, seed: int) -> list[tuple[float, float, float]]:
    """(simulated seconds, latency ratio, accuracy share) of each fine-tuned trial of one search."""
    noise = np.random.default_rng([seed, 7])
    clock, found = SECONDS["preparation"] if method == "auto" else 0.0, []
    base_ms = landscape.prepared.base.figures["latency_ms"].value
    with tempfile.TemporaryDirectory() as folder:
        source = sweep(method, landscape.prepared, LEVELS) if method in SWEEPS else None
        proposer = None if source else _proposer(landscape, method, seed, Path(folder))
        while clock < HORIZON_S:
            if proposer is None:
                assert source is not None
                candidate, screening, number = next(source, None), None, -1
                if candidate is None:  # every network that a level gives has been tried
                    break
            else:
                proposal = proposer.ask()
                candidate, screening, number = proposal.candidate, proposal.screening, proposal.number
            measured, seconds = landscape.measured(candidate, noise, screening)
            clock += seconds
            if proposer is not None:
                proposer.tell(number, measured)
            if not measured.screened and clock <= HORIZON_S:
                figures = measured.figures
                found.append((clock, figures["latency_ms"].value / base_ms, figures["map50_95"].value / landscape.base))
        if proposer is not None:
            proposer.close()
    return found


def _proposer(landscape: Landscape, method: str, seed: int, folder: Path) -> OptunaProposer:
    prepared = landscape.prepared
    assert prepared.guide is not None
    guide = replace(prepared.guide, seed=seed, _learned={}) if method == "auto" else None
    space = prepared.space if guide else stage_space(prepared)
    return OptunaProposer(
        sqlite_url(folder / "study.db"),
        "replay",
        space,
        objectives_named(("map50_95", "latency_ms", "params_m")),
        sampler=method,
        seed=seed,
        opening=guide.opening() if guide else opening(space),
        guide=guide,
    )


def volume(found: Sequence[tuple[float, float, float]]) -> float:
    """Area that the trials dominate."""
    front: list[tuple[float, float]] = []
    area = 0.0
    for _, ratio, share in found:
        area += added_volume(front, ratio, share)
        front = _merged(front, (ratio, share))
    return area


def _merged(front: list[tuple[float, float]], point: tuple[float, float]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for cost, share in sorted([*front, point], key=lambda one: (one[0], -one[1])):
        if not merged or share > merged[-1][1]:
            merged.append((cost, share))
    return merged


def over_time(found: Sequence[tuple[float, float, float]], times: Sequence[float]) -> list[float]:
    """Volume at each of the simulated times."""
    return [volume([one for one in found if one[0] <= time]) for time in times]


_LANDSCAPE: Landscape | None = None


def _begin(base: str) -> None:
    global _LANDSCAPE
    import torch

    torch.set_num_threads(1)
    _LANDSCAPE = Landscape.through(prepared_study(base)[1], rows_of(base))


def _run(task: tuple[str, int]) -> tuple[str, int, list[tuple[float, float, float]]]:
    assert _LANDSCAPE is not None
    return *task, searched(_LANDSCAPE, *task)


def replayed(base: str, methods: Sequence[str], seeds: int, workers: int) -> dict[str, list[Any]]:
    """Method -> the trials of each seed."""
    tasks = [(method, seed) for seed in range(seeds) for method in methods]
    found: dict[str, list[Any]] = {method: [] for method in methods}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(base,)) as pool:
        for method, seed, trials in pool.map(_run, tasks):
            found[method].append(trials)
            print(f"{method:8s} seed {seed:2d}: {len(trials):3d} trials, volume {volume(trials):.4f}", flush=True)
    return found


def said(report: dict[str, Any]) -> str:
    """The table, and whether what was asked for is met."""
    off = report["errors"]
    lines = [
        f"{report['plans']} plans. On plans that were left out the landscape errs by {off['accuracy_mae']:.3f} "
        f"mAP50-95 (tau {off['accuracy_tau']:.2f}), its divergence has tau {off['divergence_tau']:.2f}, its latency "
        f"errs by {100 * off['latency_residual']:.1f} %. {report['seeds']} seeds; volume: median (quartiles).",
        "",
        "| sampler | trials | " + " | ".join(f"{HORIZON_S * at / 60:.0f} min" for at in CHECKPOINTS) + " |",
        "|---|---|" + "---|" * len(CHECKPOINTS),
    ]
    for method, rows in report["volumes"].items():
        low, middle, high = np.percentile(rows, [25, 50, 75], axis=0)
        cells = [f"{m:.3f} ({a:.3f} to {b:.3f})" for a, m, b in zip(low, middle, high, strict=True)]
        lines.append(f"| {method} | {report['trials'][method]:.0f} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *verdicts(report["volumes"])])


def verdicts(volumes: dict[str, Any]) -> Iterator[str]:
    """The two goals."""
    medians = {method: np.median(rows, axis=0) for method, rows in volumes.items()}
    if not {"auto", "tpe"} <= medians.keys():
        return
    quarter = CHECKPOINTS.index(0.25)
    soon, late = medians["auto"][quarter], medians["tpe"][-1]
    yield f"- {_met(soon >= late)}: in a quarter of the time `auto` has {soon:.3f}, plain TPE after all {late:.3f}"
    ahead = all((medians["auto"] >= other).all() for other in medians.values())
    yield f"- {_met(ahead)}: `auto` is ahead of every other method at every checkpoint in the median"


def _met(is_so: bool) -> str:
    return "met" if is_so else "**missed**"


def draw(report: dict[str, Any], path: Path) -> None:
    """Volume over simulated time: medians, and the quartiles as bands."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.2))
    minutes = np.array(report["times"]) / 60
    for method, rows in report["curves"].items():
        low, middle, high = np.percentile(rows, [25, 50, 75], axis=0)
        (line,) = axes.plot(minutes, middle, label=method, linewidth=2.4 if method == "auto" else 1.3)
        axes.fill_between(minutes, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xlabel("simulated minutes on one core")
    axes.set_ylabel("hypervolume of accuracy and latency")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", ncols=2, frameon=False)
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Replay, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="yolov8n", choices=("yolov8n", "yolo11n"))
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    prepared, rows = prepared_study(asked.base)[1], rows_of(asked.base)
    found = replayed(asked.base, asked.methods, asked.seeds, asked.workers)
    times = np.linspace(0, HORIZON_S, 49)
    report = {
        "plans": len(rows),
        "seeds": asked.seeds,
        "errors": errors(prepared, rows),
        "trials": {method: float(np.median([len(one) for one in runs])) for method, runs in found.items()},
        "volumes": {
            method: [over_time(one, [HORIZON_S * at for at in CHECKPOINTS]) for one in runs]
            for method, runs in found.items()
        },
        "times": times.tolist(),
        "curves": {method: [over_time(one, times.tolist()) for one in runs] for method, runs in found.items()},
    }
    if asked.json:
        asked.json.write_text(json.dumps(report))
    if asked.picture:
        draw(report, asked.picture)
    print(said(report))


if __name__ == "__main__":
    assert ROOT.is_dir()
    main()
