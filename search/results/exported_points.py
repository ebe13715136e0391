"""Exported points: a trial's export in another precision, measured by `export`, as a further point of the front.

    exports/0017-int8.json      figures of the file that `paretoprune export RUN:17 quantize=8` delivered

Such a point is a row like a trial's in report, status and pick. It is called `17-int8` (`PointId`), and `RUN:17-int8`
names it. No trial is told of it, so that a search that goes on is the same search.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from objectives.class_drop import largest_drop
from objectives.objective import Estimate
from search.config.spec import StudySpec
from search.export.accuracy_shift import shifted
from search.export.report import ArtefactCheck, ExportReport
from search.run_folder.atomic import write_json
from search.run_folder.record import MISSHAPEN, RunRecord, check_known, foreign, sealed
from search.trial import Measurement, Origin, PointId, Trial, TrialState

FORMAT = 1


def point_path(record_path: Path, point: PointId) -> Path:
    """Where the figures of an exported point lie."""
    return record_path / "exports" / f"{point.trial:04d}-{point.precision}.json"


def exported_trials(record: RunRecord, trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """The exported points of these trials, in order. A file that cannot be read, or is of another run, is no point:
    it can be made again.
    """
    known, paths = {trial.number: trial for trial in trials}, sorted((record.path / "exports").glob("*.json"))
    origin = record.origin() if paths else Origin()
    found = (_read(path, known, origin) for path in paths)
    return tuple(sorted((point for point in found if point is not None), key=lambda point: point.id))


def _read(path: Path, known: Mapping[int, Trial], origin: Origin) -> Trial | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check_known(content, FORMAT, path)
        point = PointId.parse(f"{content['trial']}-{content['precision']}")
        trial = known[point.trial]
        if foreign(content, origin.of(trial.candidate)) is not None:
            return None
        measured = Measurement.from_json(content["measurement"])
    except (OSError, *MISSHAPEN):
        return None
    return Trial(
        trial.number,
        TrialState.COMPLETE,
        replace(trial.candidate, precision=point.precision),
        measured,
        source="export",
        exported=True,
    )


def record_points(
    record: RunRecord, spec: StudySpec, base: Measurement | None, trial: Trial, report: ExportReport
) -> tuple[str, ...]:
    """Write a point for every delivered artefact that is comparable with the trials; return their names.

    Those are of the study's own runtime, in another precision than the trial's, timed and validated here. An export is
    timed beside the base in float32 and its loss is that to the checkpoint, so study and trial must be in float32.
    """
    names = []
    for check in report.artefacts:
        if base is not None and _comparable(check, spec, trial):
            measured = _measurement(check, report, base, trial)
            point = PointId(trial.number, check.precision)
            content: dict[str, Any] = {"format": FORMAT, "trial": point.trial, "precision": point.precision}
            content |= {"measurement": measured.to_json()}
            write_json(point_path(record.path, point), sealed(content, record.origin().of(trial.candidate)))
            names.append(str(point))
    return tuple(names)


def _comparable(check: ArtefactCheck, spec: StudySpec, trial: Trial) -> bool:
    same_runtime = check.latency is not None and check.latency["runtime"] == spec.latency.runtime
    other = check.precision != trial.candidate.precision and spec.precision == trial.candidate.precision == "fp32"
    alike = not check.graph and spec.latency.batch == 1
    return same_runtime and other and alike and check.passed and check.drop is not None


def _measurement(check: ArtefactCheck, report: ExportReport, base: Measurement, trial: Trial) -> Measurement:
    """Return the trial's figures with the artefact's accuracy, latency, size and memory.

    Other costs were measured of the trial's own file, so that the point has none of them.
    """
    assert trial.measurement is not None and check.latency is not None
    figures = dict(shifted(trial.measurement.figures, report.accuracy, check.accuracy))
    per_class = {
        name: min(1.0, max(0.0, value + check.per_class.get(name, 0.0) - report.per_class.get(name, 0.0)))
        for name, value in trial.measurement.per_class.items()
    }
    worst = largest_drop(base.per_class, per_class, {})
    figures |= {} if worst is None else {"per_class_drop": worst[1]}
    known = trial.measurement.figures
    figures |= {name: known[name] for name in ("params_m", "macs_g", "weights_mb") if name in known}
    ratio = Estimate(**check.latency["ratio"])
    figures["latency_ms"] = ratio.scaled(base.figures["latency_ms"].value)
    figures["size_mb"] = Estimate.exact(check.size_bytes / 1e6)
    if check.memory is not None and "memory_mb" in trial.measurement.figures:
        figures["memory_mb"] = Estimate.exact(check.memory["peak_mb"])
    said = f"exported from trial {trial.number} as {check.label} ({check.path}), not searched"
    return replace(
        trial.measurement,
        figures=figures,
        per_class=per_class,
        seconds={},
        notes=(said,),
        timing=dict(check.latency),
        replicates={},  # they are the checkpoint's
    )
