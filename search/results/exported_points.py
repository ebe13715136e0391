"""Exported points: a trial's export in another precision, measured by `export`, as a further point of the front.

    exports/0017-int8.json      figures of the file that `paretoprune export RUN:17 quantize=8` delivered

Such a point is a row like a trial's in report, status and pick. It is called `17 int8`, and `RUN:17-int8` names it. It
has a number of its own (rows are keyed by numbers), far above every trial's; no trial is told of it, so that a search
that goes on is the same search.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from objectives.class_drop import largest_drop
from objectives.objective import Estimate
from search.config.spec import StudySpec
from search.export.accuracy_shift import shifted
from search.export.report import ArtefactCheck, ExportReport
from search.run_folder.atomic import write_json
from search.run_folder.record import RunRecord
from search.trial import Measurement, Trial, TrialState

FORMAT = 1
FIRST = 10_000_000
"""Numbers of exported points begin here: FIRST + 10 * trial + the precision's place below."""
_PLACES = {"fp32": 0, "fp16": 1, "int8": 2}


def number_of(trial: int, precision: str) -> int:
    """Return the number of an exported point."""
    return FIRST + 10 * trial + _PLACES[precision]


def exported_from(number: int) -> tuple[int, str] | None:
    """Return (trial, precision) of an exported point's number; None for a trial's."""
    if number < FIRST:
        return None
    trial, place = divmod(number - FIRST, 10)
    return trial, next((name for name, one in _PLACES.items() if one == place), "")


def point_path(record_path: Path, trial: int, precision: str) -> Path:
    """Return the path of an exported point's figures."""
    return record_path / "exports" / f"{trial:04d}-{precision}.json"


def exported_trials(record: RunRecord, trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Return the exported points of these trials, by number. Unreadable files are skipped: they can be made again."""
    known = {trial.number: trial for trial in trials}
    found = (_read(path, known) for path in sorted((record.path / "exports").glob("*.json")))
    return tuple(sorted((point for point in found if point is not None), key=lambda point: point.number))


def _read(path: Path, known: Mapping[int, Trial]) -> Trial | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        trial, precision = known[int(content["trial"])], str(content["precision"])
        measured = Measurement.from_json(content["measurement"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Trial(
        number_of(trial.number, precision),
        TrialState.COMPLETE,
        replace(trial.candidate, precision=precision),
        measured,
        source="export",
        exported_from=trial.number,
    )


def record_points(
    record: RunRecord, spec: StudySpec, base: Measurement | None, trial: Trial, report: ExportReport
) -> tuple[str, ...]:
    """Write a point for every delivered artefact that is comparable with the trials; return their names.

    Those are of the study's own runtime, in another precision than the trial's, timed and validated here.
    """
    names = []
    for check in report.artefacts:
        if base is not None and _comparable(check, spec, trial):
            measured = _measurement(check, report, base, trial)
            path = point_path(record.path, trial.number, check.precision)
            content = {"format": FORMAT, "trial": trial.number, "precision": check.precision}
            write_json(path, {**content, "measurement": measured.to_json()})
            names.append(f"{trial.number} {check.precision}")
    return tuple(names)


def _comparable(check: ArtefactCheck, spec: StudySpec, trial: Trial) -> bool:
    same_runtime = check.latency is not None and check.latency["runtime"] == spec.latency.runtime
    other = check.precision != trial.candidate.precision
    return same_runtime and other and check.passed and check.drop is not None and spec.latency.batch == 1


def _measurement(check: ArtefactCheck, report: ExportReport, base: Measurement, trial: Trial) -> Measurement:
    """Return the trial's figures with the artefact's accuracy, latency and size."""
    assert trial.measurement is not None and check.latency is not None
    figures = dict(shifted(trial.measurement.figures, report.accuracy, check.accuracy))
    per_class = {
        name: min(1.0, max(0.0, value + check.per_class.get(name, 0.0) - report.per_class.get(name, 0.0)))
        for name, value in trial.measurement.per_class.items()
    }
    worst = largest_drop(base.per_class, per_class, {})
    figures |= {} if worst is None else {"per_class_drop": worst[1]}
    figures |= {name: trial.measurement.figures[name] for name in ("params_m", "macs_g")}
    ratio = Estimate(**check.latency["ratio"])
    figures["latency_ms"] = ratio.scaled(base.figures["latency_ms"].value)
    figures["size_mb"] = Estimate.exact(check.size_bytes / 1e6)
    said = f"exported from trial {trial.number} as {check.label} ({check.path}), not searched"
    return replace(
        trial.measurement, figures=figures, per_class=per_class, seconds={}, notes=(said,), timing=dict(check.latency)
    )
