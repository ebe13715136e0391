"""Measured plans of the digits study: what a search replays (search_replay.py), and what its scores are worth.

    python benchmarks/search_table.py --plans 300 [--base yolov8n] [--workers 2]

Every plan is measured as a trial is, with a shorter fine-tune (a quarter of an epoch, no teacher), so that hundreds
are affordable: exact cost, predicted cost, sum of prices, divergence before the fine-tune, mAP50-95 after
it. Plans are of seven kinds: uniform, one global ranking, equal tolerance (every part may change the outputs
as much as any other), random per stage, random per group, the ladder of allocation, and allocation under random
coefficients. Rows are appended one by one to benchmarks/data/plans-BASE.jsonl;
what is there is not measured again.

    python benchmarks/search_table.py --latencies      # on a quiet machine: times the shapes of rows that have none
    python benchmarks/search_table.py --again          # the same plans by today's repair; --device 0: on a GPU

Without these it prints what the rows say: rank correlations between the rungs, and the best of each kind.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau

from pruning.plan import globally_ranked_ratios
from pruning.recovery.repair import Origin
from search.errors import RunLocked
from search.evaluate.output_divergence import output_probe
from search.evaluate.workload import load_model, measure_accuracy, repair, save_model
from search.prepare.guide_setup import Subject, timing_of
from search.prepare.prepared import Prepared
from search.propose.allocation import Allocator, Vector, divergence_of, price_of
from search.results.snapshot import version
from search.study import Study
from search.trial import Candidate

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "studies" / "digits" / "study.yaml"
LEVELS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.8)
MOST = 0.9
"""The largest ratio of the digits study."""
SHARES = (("stages", 0.2), ("each", 0.1), ("weighted", 0.7))
"""Of the plans beyond the fixed ones."""


def table_path(base: str) -> Path:
    """Where the rows of a base lie."""
    return ROOT / "benchmarks" / "data" / f"plans-{base}.jsonl"


def rows_of(base: str) -> list[dict[str, Any]]:
    """The measured rows so far."""
    path = table_path(base)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def prepared_study(base: str) -> tuple[Study, Prepared]:
    """The digits study with this base, ready: curves, latency model, scores."""
    study = Study(STUDY, model=str(STUDY.parent / f"{base}-digits.pt"), name=f"table-{base}")
    while True:
        try:
            return study, study.prepare()
        except RunLocked:  # another worker of this script is preparing
            time.sleep(1.0)


def designed(prepared: Prepared, count: int, seed: int) -> Iterator[tuple[str, Candidate]]:
    """The fixed plans, then random ones."""
    guide, evaluator, space = prepared.guide, prepared.evaluator, prepared.space
    assert guide is not None
    graph = evaluator.graphs[space.sizes[0]]  # type: ignore[attr-defined]
    for level in LEVELS:
        yield "uniform", space.uniform(level)
    for level in LEVELS:
        yield "global", by_hand("global", prepared, level)
    for tolerance in np.geomspace(0.003, 0.5, 12):
        yield "tolerance", tolerant(guide.allocator, float(tolerance))
    for budget in np.linspace(0.95, 0.22, 20):
        yield "ladder", guide.allocator.within(float(budget))
    random = np.random.default_rng(seed)
    stage_of = {group.name: group.stage for group in graph.groups}
    for _ in range(count):
        kind = str(random.choice([name for name, _ in SHARES], p=[share for _, share in SHARES]))
        yield kind, _drawn(kind, prepared, stage_of, random)


def by_hand(method: str, prepared: Prepared, level: float) -> Candidate:
    """Uniform ratios, or what one global ranking takes from each group, in a space with a ratio for each."""
    evaluator: Any = prepared.evaluator
    space, graph = prepared.space, next(iter(evaluator.graphs.values()))
    if method == "uniform":
        return space.uniform(level)
    per_tie = globally_ranked_ratios(graph, level, evaluator.scores)
    ties = {d.name: int(graph.table.ties[graph.table.numbers[d.groups[0]]]) for d in space.dimensions}
    return replace(space.uniform(0.0), ratios={name: min(MOST, per_tie[tie]) for name, tie in ties.items()})


def sweep(method: str, prepared: Prepared, levels: int) -> Iterator[Candidate]:
    """`by_hand` at ever finer levels (van der Corput: 1/2, 1/4, 3/4, 1/8, ...), each network once."""
    seen: set[str] = set()
    for number in range(1, levels + 1):
        candidate = by_hand(method, prepared, MOST * int(f"{number:b}"[::-1], 2) / 2 ** number.bit_length())
        key = prepared.evaluator.pruned(candidate).key
        if key not in seen:
            seen.add(key)
            yield candidate


def tolerant(allocator: Allocator, most: float) -> Candidate:
    """Every part as narrow as it can be with a divergence of at most `most` alone, whatever that brings."""
    limit = float(price_of(np.array(most)))
    entries = [int(np.flatnonzero(options.prices <= limit)[-1]) for options in allocator.dims]
    removed = tuple(one.path for one in allocator.removals if one.price <= limit)
    return allocator.candidate(Vector(tuple(entries), removed))


def _drawn(kind: str, prepared: Prepared, stage_of: dict[str, str], random: np.random.Generator) -> Candidate:
    space, guide = prepared.space, prepared.guide
    assert guide is not None
    if kind == "weighted":
        spread = float(random.choice([0.5, 1.0, 1.5]))
        weights = {stage: float(np.exp(spread * random.standard_normal())) for stage in guide.allocator.stages}
        return guide.allocator.within(float(random.uniform(0.22, 0.95)), weights)
    removed = tuple(b.path for b in space.blocks if random.random() < (0.3 if kind == "stages" else 0.1))
    if kind == "stages":
        levels = {stage: float(random.uniform(0, 0.9)) for stage in set(stage_of.values())}
        ratios = {d.name: levels[stage_of[d.groups[0]]] for d in space.dimensions}
    else:
        level = random.uniform(0.0, 0.7)
        ratios = {d.name: float(np.clip(level + 0.25 * random.standard_normal(), 0, 0.9)) for d in space.dimensions}
    return replace(space.uniform(0.0), ratios=ratios, removed=removed)


def measured(
    study: Study, prepared: Prepared, kind: str, candidate: Candidate, seed: int, device: str = "cpu"
) -> dict[str, Any]:
    """One row."""
    spec, guide, evaluator = study.spec, prepared.guide, prepared.evaluator
    assert guide is not None
    began = time.perf_counter()
    base = load_model(spec.model)
    plan = evaluator.plan(candidate)  # type: ignore[attr-defined]
    graph, scores = evaluator.graphs[candidate.imgsz], evaluator.scores  # type: ignore[attr-defined]
    divergence = output_probe(spec, base, graph, scores).divergence_of(plan)
    from search.evaluate.pruning_evaluator import recovery_of

    short = spec.recover.model_copy(update={"epochs": 1, "fraction": 0.25, "distill": False})
    recovery = recovery_of(short, imgsz=candidate.imgsz, device=device, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        source, origin = Path(spec.model), Origin(plan, base)
        found = repair(plan.apply(base), spec.data, recovery, origin=origin, base=source, work_dir=here)
        save_model(found.model, here / "weights.pt")
        where = {"imgsz": candidate.imgsz, "device": device, "work_dir": here}
        accuracy = measure_accuracy(load_model(here / "weights.pt"), spec.data, **where)
    vector, figure = guide.allocator.vector(candidate), accuracy.figures["map50_95"]
    return {
        "kind": kind,
        "ratios": {name: round(ratio, 4) for name, ratio in candidate.ratios.items()},
        "removed": list(candidate.removed),
        "widths": list(plan.widths.values()),
        "params": plan.cost().params,
        "macs": plan.cost().macs,
        "predicted": guide.allocator.cost(vector),
        "price": guide.allocator.price(vector),
        "divergence": divergence,
        "map": figure.value,
        "low": figure.low,
        "high": figure.high,
        "seconds": time.perf_counter() - began,
        "version": version(),
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(int(device)),
    }


def _worker(base: str, plans: Sequence[tuple[int, str, Candidate]]) -> None:
    torch.set_num_threads(1)
    study, prepared = prepared_study(base)
    for number, kind, candidate in plans:
        row = measured(study, prepared, kind, candidate, number)
        with table_path(base).open("a") as table:
            table.write(json.dumps(row) + "\n")
        print(f"{number:4d} {kind:9s} cost {row['predicted']:.3f} mAP50-95 {row['map']:.3f}", flush=True)


def measure(base: str, count: int, workers: int) -> None:
    """Add rows until there are `count`."""
    table_path(base).parent.mkdir(exist_ok=True)
    known = {tuple(row["widths"]) for row in rows_of(base)}
    prepared = prepared_study(base)[1]
    plans = []
    for number, (kind, candidate) in enumerate(designed(prepared, 3 * count, seed=len(known))):
        widths = tuple(prepared.evaluator.plan(candidate).widths.values())  # type: ignore[attr-defined]
        if widths not in known and len(known) < count:
            known.add(widths)
            plans.append((number, kind, candidate))
    parts = [(base, plans[part::workers]) for part in range(workers)]
    children = [multiprocessing.get_context("spawn").Process(target=_worker, args=part) for part in parts]
    for child in children:
        child.start()
    for child in children:
        child.join()


AGAIN = ("divergence", "map", "low", "high", "seconds", "version", "device")
"""What the repair changes of a row; `--refresh` then gives prices and predicted costs."""


def _worker_again(base: str, rows: Sequence[dict[str, Any]], device: str, out: Path) -> None:
    torch.set_num_threads(1)
    study, prepared = prepared_study(base)
    for number, row in enumerate(rows):
        candidate = replace(prepared.space.uniform(0.0), ratios=row["ratios"], removed=tuple(row["removed"]))
        found = measured(study, prepared, row["kind"], candidate, number, device)
        if found["widths"] != row["widths"]:  # a ratio at the border between two widths, which the table has rounded
            found = {name: None for name in AGAIN}
        with out.open("a") as table:
            table.write(json.dumps({"widths": row["widths"]} | {name: found[name] for name in AGAIN}) + "\n")
        print(f"{row['kind']:9s} mAP50-95 {row['map']:.3f} -> {found['map'] or math.nan:.3f}", flush=True)


def again(base: str, workers: int, device: str) -> None:
    """Measure the plans of all rows again; what an interrupted run has measured, beside the table, is kept.

    A row whose ratios give other widths today is dropped.
    """
    part = table_path(base).with_suffix(".again")
    known = {tuple(row["widths"]) for row in map(json.loads, part.read_text().splitlines())} if part.exists() else set()
    missing = [row for row in rows_of(base) if tuple(row["widths"]) not in known]
    prepared_study(base)
    shares = [(base, missing[share::workers], device, part) for share in range(workers)]
    children = [multiprocessing.get_context("spawn").Process(target=_worker_again, args=share) for share in shares]
    for child in children:
        child.start()
    for child in children:
        child.join()
    found = {tuple(row["widths"]): row for row in map(json.loads, part.read_text().splitlines())}
    rows = [row | found.get(tuple(row["widths"]), {}) for row in rows_of(base)]
    if len(found) < len(rows):
        raise SystemExit(f"{len(found)} of {len(rows)} plans measured; the same command goes on")
    rows = [row for row in rows if row["map"] is not None]
    table_path(base).write_text("".join(json.dumps(row) + "\n" for row in rows))
    part.unlink()


def time_rows(base: str) -> None:
    """Add the measured latency, as a ratio to the base's, to every row that has none."""
    torch.set_num_threads(1)
    study, prepared = prepared_study(base)
    evaluator: Any = prepared.evaluator
    graph = next(iter(evaluator.graphs.values()))
    model = load_model(study.spec.model)
    onnx = study.record.base_dir / "base.onnx"
    subject = Subject(
        study.spec, model, graph, prepared.space, evaluator.scores, onnx, study.record.path, evaluator.graphs, "cpu"
    )
    rows = rows_of(base)
    with timing_of(subject) as time_plan:
        for number, row in enumerate(rows):
            if "latency" in row:
                continue
            candidate = replace(prepared.space.uniform(0.0), ratios=row["ratios"], removed=tuple(row["removed"]))
            latency = time_plan(evaluator.plan(candidate), number)
            row["latency"], row["latency_flags"] = latency.ratio.value, sorted(latency.flags)
            table_path(base).write_text("".join(json.dumps(one) + "\n" for one in rows))
            print(f"{number:4d} {row['kind']:9s} {latency.ratio.value:.4f} {' '.join(latency.flags)}", flush=True)


def refresh(base: str) -> None:
    """Give every row the price and the predicted cost that today's code finds for it."""
    prepared, rows = prepared_study(base)[1], rows_of(base)
    guide = prepared.guide
    assert guide is not None
    for row in rows:
        vector = guide.allocator.vector(Candidate(row["ratios"], removed=tuple(row["removed"])))
        row["predicted"], row["price"] = guide.allocator.cost(vector), guide.allocator.price(vector)
    table_path(base).write_text("".join(json.dumps(one) + "\n" for one in rows))


def said(base: str) -> str:
    """What the rows say: rank correlations, and for each kind the best mAP within a share of the base's cost."""
    rows = rows_of(base)
    accuracy = [row["map"] for row in rows]
    lines = [f"{len(rows)} plans of {base}"]
    for score in ("divergence", "price"):
        tau = float(kendalltau([-row[score] for row in rows], accuracy).statistic)
        lines.append(f"Kendall's tau of {score} and mAP50-95 after the fine-tune: {tau:.2f}")
    lines += ["", "| kind | plans | cost <= 0.77 | <= 0.63 | <= 0.5 |", "|---|---|---|---|---|"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        best = [max((row["map"] for row in own if row["predicted"] <= most), default=0.0) for most in (0.77, 0.63, 0.5)]
        lines.append(f"| {kind} | {len(own)} | " + " | ".join(f"{value:.3f}" for value in best) + " |")
    return "\n".join(lines)


def exponents(base: str) -> str:
    """How well sums of divergences to a power rank the accuracies: of all plans, and of those that kept half of it."""
    prepared, rows = prepared_study(base)[1], rows_of(base)
    guide = prepared.guide
    assert guide is not None
    parts = np.array([_divergences(guide.allocator, row) for row in rows])
    accuracy = np.array([row["map"] for row in rows])
    good = accuracy > accuracy.max() / 2
    lines = ["| power | tau, all plans | tau, plans that kept half of the accuracy |", "|---|---|---|"]
    for power in (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0):
        price = (parts**power).sum(axis=1)
        taus = [float(kendalltau(-price[which], accuracy[which]).statistic) for which in (accuracy >= 0, good)]
        lines.append(f"| {power:g} | {taus[0]:.3f} | {taus[1]:.3f} |")
    return "\n".join(lines)


def _divergences(allocator: Allocator, row: dict[str, Any]) -> list[float]:
    """Of each dimension and each removable block, alone; 0 for what is whole."""
    vector = allocator.vector(Candidate(row["ratios"], removed=tuple(row["removed"])))
    gone = frozenset().union(*(r.inside for r in allocator.removals if r.path in vector.removed))
    found = []
    for options, entry in zip(allocator.dims, vector.entries, strict=True):
        found.append(0.0 if options.name in gone else float(divergence_of(options.prices[entry])))
    whole = ((one.path in vector.removed) * one.price for one in allocator.removals)
    return found + [float(divergence_of(np.float64(price))) for price in whole]


def main() -> None:
    """Measure, then say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="yolov8n", choices=("yolov8n", "yolo11n"))
    parser.add_argument("--plans", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--latencies", action="store_true")
    parser.add_argument("--again", action="store_true", help="accuracies and divergences by today's repair")
    parser.add_argument("--device", default="cpu", help="of --again: cpu, or the number of a GPU")
    parser.add_argument("--refresh", action="store_true", help="prices and predicted costs by today's code")
    parser.add_argument("--exponents", action="store_true", help="print how well powers of the divergence rank")
    asked = parser.parse_args()
    if asked.plans:
        measure(asked.base, asked.plans, asked.workers)
    if asked.again:
        again(asked.base, asked.workers, asked.device)
    if asked.latencies:
        time_rows(asked.base)
    if asked.refresh:
        refresh(asked.base)
    print(said(asked.base))
    if asked.exponents:
        print(exponents(asked.base))


if __name__ == "__main__":
    main()
