"""snapshot.json: the plain record that report, status and dashboard draw. They never open the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from search.results import ranking
from search.results.baseline_results import read_rows
from search.results.exported_points import describe_row
from search.results.screening_stats import expectations, rungs
from search.results.target_device import target_names
from search.results.target_views import target_views
from search.results.verdict import compared_verdict
from search.run_folder.atomic import csv_text, read_mapping, write_atomic, write_json
from search.run_folder.record import LAYERS
from search.trial import Measurement, Trial, TrialState, figures_to_json

if TYPE_CHECKING:
    from search.study import Study

FORMAT = 1


def snapshot(study: Study) -> dict[str, Any]:
    """Everything about a study that is drawn, as plain JSON."""
    trials, base, objectives = study.trials(), study.base(), study.objectives
    points, ranked = study.points(), study.ranked()
    searched = ranking.rank(trials, study.spec.bounds, objectives)
    measured = sum(trial.state == TrialState.COMPLETE for trial in trials)
    budgets = {name: study.spec.budget(name) for name in study.spec.budgets}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = study.record.read_snapshot() or {}
    rows = read_rows(study.record) if study.target is None else ()  # they were timed here
    expected = expectations(trials, objectives, base)
    return {
        "format": FORMAT,
        "name": study.spec.run_name,
        "state": study.state(),
        "created": before.get("created", now),
        "updated": now,
        "version": version(),
        "environment": study.record.read_environment(),
        "target": None if study.target is None else {"name": study.target.name, **study.target.machine},
        "targets": target_names(study.record),
        "on_targets": {} if study.target is not None else target_views(study, trials),
        "study": study.spec.resolved(),
        "objectives": [_objective(objective) for objective in objectives],
        "constraints": [{"name": b.name, "op": b.op, "limit": b.limit} for b in study.spec.bounds],
        "budgets": study.spec.budgets,
        "progress": study.progress(),
        "base": None if base is None else _measured(base.figures, base.per_class),
        "groups": study.record.read_groups(),
        "trials": [_trial(trial, study, ranked.front, base, expected.get(trial.number)) for trial in points],
        "front": list(ranked.front),
        "hypervolume": [] if base is None else study.volumes.upto(searched, objectives, base),
        "picks": ranking.picks(ranked, budgets, objectives) if ranked.trials else {},
        "rungs": rungs(trials, objectives),
        "latency_model": read_mapping(study.record.path / "latency" / LAYERS),
        "verdict": "" if base is None else compared_verdict(ranked, rows, base, objectives, measured),
        "baselines": [row.to_json() for row in rows],
        "end": _end(study),
    }


def write_snapshot(study: Study) -> dict[str, Any]:
    """Write snapshot.json, results.csv and pareto.csv, and return the snapshot."""
    content = snapshot(study)
    write_json(study.record.snapshot_path, content, durable=False)
    rows = content["trials"]
    front = [row for row in rows if row["on_front"]]
    write_atomic(study.record.path / "results.csv", results_csv(rows), durable=False)
    write_atomic(study.record.path / "pareto.csv", results_csv(front), durable=False)
    return content


def results_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Trials as CSV: figures with their intervals, ratios, removed blocks, seconds."""
    figures = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    ratios = list(dict.fromkeys(name for row in rows for name in row["candidate"]["ratios"]))
    header = ["number", "state", "source", "feasible", "on_front", "same_as", "imgsz", "precision"]
    for name in figures:
        header += [name, f"{name}_low", f"{name}_high"]
    header += [f"ratio:{name}" for name in ratios] + ["removed", "seconds", "error"]
    return csv_text(header, (_cells(row, figures, ratios) for row in rows))


def version() -> str:
    """Version of this package; "0+source" when it is used from a checkout that is not installed."""
    try:
        return metadata.version("paretoprune")
    except metadata.PackageNotFoundError:
        return "0+source"


def _cells(row: Mapping[str, Any], figures: Sequence[str], ratios: Sequence[str]) -> list[object]:
    candidate = row["candidate"]
    cells: list[object] = [row[key] for key in ("number", "state", "source", "feasible", "on_front", "same_as")]
    cells += [candidate["imgsz"], candidate["precision"]]
    for name in figures:
        figure = row["figures"].get(name, {})
        cells += [figure.get("value"), figure.get("low"), figure.get("high")]
    cells += [candidate["ratios"].get(name) for name in ratios]
    return [*cells, " ".join(row["removed"]), round(sum(row["seconds"].values()), 3), row["error"]]


def _trial(
    trial: Trial,
    study: Study,
    front: Sequence[int],
    base: Measurement | None,
    expected: Mapping[str, float] | None,
) -> dict[str, Any]:
    measured = trial.measurement
    return {
        "number": trial.number,
        "state": trial.state.value,
        "source": trial.source,
        "feasible": ranking.is_feasible(trial, study.spec.bounds),
        "breaks": list(ranking.broken(trial, study.spec.bounds, base)),
        "on_front": trial.number in front,
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
        "error": trial.error,
        **describe_row(trial),
        "estimated": trial.state == TrialState.SCREENED,
        "expected": dict(expected or {}),
        "score": None if measured is None else measured.score,
    }


def _measured(figures: Mapping[str, Any], per_class: Mapping[str, float]) -> dict[str, Any]:
    return {"figures": figures_to_json(figures), "per_class": dict(per_class)}


def _end(study: Study) -> dict[str, str] | None:
    """Why the search ended; None while it has not."""
    found = study.record.read_ending()
    return None if found is None else {"reason": found["reason"], "sentence": found["sentence"]}


def _objective(objective: Any) -> dict[str, str]:
    return {
        "name": objective.name,
        "unit": objective.unit,
        "direction": objective.direction,
        "title": objective.title,
    }
