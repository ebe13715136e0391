"""snapshot.json: the plain record that report, status and dashboard display. They never open the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, NotRequired

from typing_extensions import TypedDict

from objectives.objective import Estimate, Objective
from search.config.spec import StudySpec
from search.results import ranking
from search.results.baseline_results import BaselineResult, further_rows, read_rows
from search.results.results import Results
from search.results.schema import FORMAT, BaseRow, EndRow, Measured, ObjectiveRow, ProgressRow, Snapshot, TrialRow
from search.results.screening_stats import expectations, rungs
from search.results.snapshot_reader import current
from search.results.target_device import target_names
from search.results.target_views import target_views
from search.results.verdict import compared_verdict
from search.run_folder.atomic import csv_text, read_mapping, write_atomic, write_json
from search.run_folder.record import LAYERS, RunRecord
from search.trial import Trial, TrialState, figures_to_json

LEFT_AFTER = 6
"""Guided trials of other bases in a row after which a base counts as left."""


def snapshot(results: Results, state: str, progress: ProgressRow, before: Mapping[str, Any] | None = None) -> Snapshot:
    """Return everything about a study that is displayed, as plain JSON.

    Args:
        state: running, finished or interrupted.
        progress: counts and times; those of a live search are the loop's.
        before: the snapshot on disk, where it has been read; of a long run it is large.
    """
    spec, record, base, objectives = results.spec, results.record, results.base, results.objectives
    trials, ranked, target = results.trials, results.ranked, results.target
    measured = sum(trial.state == TrialState.COMPLETE for trial in trials)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = before or record.read_snapshot() or {}
    rows = (*further_rows(spec.base_names, results.further), *read_rows(record)) if target is None else ()  # timed here
    expected = expectations(trials, objectives, base)
    return {
        "format": FORMAT,
        "name": spec.run_name,
        "state": state,
        "created": before.get("created", now),
        "updated": now,
        "version": version(),
        "environment": record.read_environment(),
        "target": None if target is None else {"name": target.name, **target.machine},
        "targets": target_names(record),
        "on_targets": {} if target is not None else target_views(results),
        "study": spec.displayed(),
        "objectives": [_objective(objective) for objective in objectives],
        "constraints": [{"name": b.name, "op": b.op, "limit": b.limit} for b in spec.bounds],
        "budgets": {name: {b.name: b.limit for b in bounds} for name, bounds in results.limits.items()},
        "progress": progress,
        "base": None if base is None else _measured(base.figures, base.per_class),
        **_bases(results),
        "groups": record.read_groups(),
        "trials": [_trial(point, results, expected.get(point.number)) for point in results.points],
        "front": list(map(str, ranked.front)),
        "hypervolume": results.hypervolume,
        "picks": results.picks,
        "rungs": rungs(trials, objectives),
        "latency_model": read_mapping(record.path / "latency" / LAYERS),
        "verdict": _verdict(results, rows, measured),
        "baselines": [row.to_json() for row in rows],
        "end": _end(record),
    }


def write_snapshot(results: Results, state: str, progress: ProgressRow) -> Snapshot:
    """Write snapshot.json, results.csv and pareto.csv, and return the snapshot."""
    content = snapshot(results, state, progress)
    write_json(results.record.snapshot_path, content, durable=False, indent=None)
    rows = content["trials"]
    front = [row for row in rows if row["on_front"]]
    write_atomic(results.record.path / "results.csv", results_csv(rows), durable=False)
    write_atomic(results.record.path / "pareto.csv", results_csv(front), durable=False)
    return content


def current_snapshot(results: Results) -> Snapshot:
    """Return the snapshot of a run; the one on disk while another process searches it."""
    on_disk = results.record.read_snapshot()
    if on_disk is not None and results.target is None and results.record.lock.is_held():
        return current(on_disk)
    return snapshot(results, _state(results.record, on_disk), results.progress(), on_disk)


def snapshot_with(results: Results, point: Trial) -> Snapshot:
    """Return the current snapshot with a row for `point`, which is drawn from `results` where the snapshot has none.

    The snapshot on disk lags behind while another process searches the run: until the next trial ends it lacks those
    that run, and what was exported since.
    """
    content = current_snapshot(results)
    if any(row["id"] == str(point.id) for row in content["trials"]):
        return content
    row = _trial(point, results, None)
    if point.state == TrialState.STOPPED and results.record.lock.is_held():
        row["state"] = TrialState.RUNNING.value
    return {**content, "trials": [*content["trials"], row]}


def refresh(record: RunRecord, spec: StudySpec) -> None:
    """Rewrite derived files after a change outside the search: an export, figures of a device.

    While a process searches the run, its next trial does so.
    """
    if not record.lock.is_held():
        results = Results.read(record, spec)
        write_snapshot(results, state_on_disk(record), results.progress())


def state_on_disk(record: RunRecord) -> str:
    """Return finished or interrupted; a killed search counts as interrupted."""
    return _state(record, record.read_snapshot())


def _state(record: RunRecord, before: Mapping[str, Any] | None) -> str:
    """As `state_on_disk`, of a run whose snapshot has been read."""
    ending = record.read_ending()
    if before is None and ending is not None and ending["closed"]:
        return "finished"  # the snapshot is gone or damaged, not what it was drawn from
    return "finished" if (before or {}).get("state") == "finished" else "interrupted"


def results_csv(rows: Sequence[TrialRow]) -> str:
    """Trials and exports as CSV, by `id`: figures with their intervals, ratios, removed blocks, seconds.

    The name of the base comes last, in a study of several.
    """
    figures = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    ratios = list(dict.fromkeys(name for row in rows for name in row["candidate"]["ratios"]))
    header = ["id", "number", "state", "source", "feasible", "on_front", "same_as", "imgsz", "dtype"]
    for name in figures:
        header += [name, f"{name}_low", f"{name}_high"]
    header += [f"ratio:{name}" for name in ratios] + ["removed", "epochs", "seconds", "error"]
    header += ["base"] if any("base" in row for row in rows) else []
    return csv_text(header, (_cells(row, figures, ratios) for row in rows))


def _verdict(results: Results, rows: Sequence[BaselineResult], measured: int) -> str:
    names = results.spec.base_names if results.further else ()
    if results.base is None:
        return ""
    return compared_verdict(results.ranked, rows, results.base, results.objectives, measured, names)


def version() -> str:
    """Return the version of this package; "0+source" in a checkout that is not installed."""
    try:
        return metadata.version("paretoprune")
    except metadata.PackageNotFoundError:
        return "0+source"


def _cells(row: TrialRow, figures: Sequence[str], ratios: Sequence[str]) -> list[object]:
    candidate = row["candidate"]
    cells: list[object] = [row["id"], row["number"], row["state"], row["source"], row["feasible"], row["on_front"]]
    cells += [row["same_as"], candidate["imgsz"], candidate["precision"]]
    for name in figures:
        figure = row["figures"].get(name)
        cells += [None] * 3 if figure is None else [figure["value"], figure["low"], figure["high"]]
    cells += [candidate["ratios"].get(name) for name in ratios]
    cells += [" ".join(row["removed"]), row["epochs"], round(sum(row["seconds"].values()), 3), row["error"]]
    return [*cells, *([row["base"]] if "base" in row else [])]


class _Bases(TypedDict):
    bases: NotRequired[list[BaseRow]]


def _bases(results: Results) -> _Bases:
    """Return a row for each base of a study of several; nothing for one."""
    if not results.further:
        return {}
    found: list[BaseRow] = []
    for place, (name, base) in enumerate(zip(results.spec.base_names, results.bases, strict=False)):
        own = [trial.number for trial in results.trials if trial.candidate.base == place]
        on_front = sum(trial.candidate.base == place for trial in results.front)
        last = max(own, default=None)
        found.append(
            {
                **_measured(base.figures, base.per_class),
                "name": name,
                "groups": results.record.of_base(place).read_groups(),
                "trials": len(own),
                "on_front": on_front,
                "last": last,
                "is_left": _is_left(results, last),
            }
        )
    return {"bases": found}


def _is_left(results: Results, last: int | None) -> bool:
    """Return whether the guides have given a base no further trial: the other samplers never leave one."""
    since = [trial for trial in results.trials if last is not None and trial.number > last]
    return sum(trial.source.startswith("guided") for trial in since) >= LEFT_AFTER


def _trial(trial: Trial, results: Results, expected: Mapping[str, float] | None) -> TrialRow:
    measured, bounds = trial.measurement, results.spec.bounds
    row: TrialRow = {
        "id": str(trial.id),
        "number": trial.number,
        "exported": trial.exported,
        "state": trial.state.value,
        "source": trial.source,
        "feasible": ranking.is_feasible(trial, bounds),
        "breaks": list(ranking.broken(trial, bounds, results.base)),
        "on_front": trial.id in results.ranked.on_front,
        "same_as": trial.same_as,
        "figures": {} if measured is None else figures_to_json(measured.figures),
        "per_class": {} if measured is None else dict(measured.per_class),
        "widths": {} if measured is None else dict(measured.widths),
        "removed": list(trial.candidate.removed),
        "candidate": trial.candidate.to_json(),
        "seconds": {} if measured is None or trial.same_as is not None else dict(measured.seconds),
        "notes": [] if measured is None else list(measured.notes),
        "timing": {} if measured is None else dict(measured.timing),
        "seeds": 1 if measured is None else measured.seeds,
        "epochs": None if measured is None else measured.epochs,
        "error": trial.error,
        "estimated": trial.state == TrialState.SCREENED,
        "expected": dict(expected or {}),
        "score": None if measured is None else measured.score,
    }
    if len(results.spec.models) > 1:
        row["base"] = results.spec.base_names[trial.candidate.base]
    return row


def _measured(figures: Mapping[str, Estimate], per_class: Mapping[str, float]) -> Measured:
    return {"figures": figures_to_json(figures), "per_class": dict(per_class)}


def _end(record: RunRecord) -> EndRow | None:
    """Return why the search ended; None while it has not."""
    found = record.read_ending()
    return None if found is None else {"reason": found["reason"], "sentence": found["sentence"]}


def _objective(objective: Objective) -> ObjectiveRow:
    return {
        "name": objective.name,
        "unit": objective.unit,
        "direction": objective.direction,
        "title": objective.title,
    }
