"""The finished run with what comes later: an exported point, another device's times, a trial that was screened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from objectives.objective import Estimate
from search.results.exported_points import point_path
from search.results.target_device import Target
from search.run_folder.atomic import write_json
from search.run_folder.record import RunRecord
from search.study import Study
from search.trial import Candidate, Measurement, PointId

EXPORTED, SCREENED, DEVICE, BASE_MS = 12, 30, "pi5", 60.0


def enrich(run: Path) -> Path:
    """Change a copy of `Studio`'s run, in place; returns it."""
    record = RunRecord.existing(run)
    for trial in record.trials():
        if trial.measurement is not None:
            accuracy = trial.measurement.figures["map50_95"].value
            record.write_outcome(trial.number, replace(trial.measurement, score=1.0 - accuracy))
    _screen(record)
    _export(record)
    _time_elsewhere(record)
    Study.load(run).refresh()
    return run


def measured(record: RunRecord, number: int) -> Measurement:
    """What a trial has."""
    trial = record.read_trial(number)
    assert trial is not None and trial.measurement is not None
    return trial.measurement


def _screen(record: RunRecord) -> None:
    """A trial like the tenth that the screening did not let pass: predicted latency, no accuracy."""
    like = record.read_trial(10)
    assert like is not None and like.measurement is not None
    costs = {name: like.measurement.figures[name] for name in ("latency_ms", "params_m", "macs_g")}
    record.start_trial(SCREENED, Candidate(like.candidate.ratios, like.candidate.imgsz), "tpe")
    screened = replace(like.measurement, figures=costs, per_class={}, score=0.6, screened=True)
    record.write_outcome(SCREENED, screened)


def _export(record: RunRecord) -> None:
    own = measured(record, EXPORTED)
    figures = {**own.figures, "latency_ms": own.figures["latency_ms"].scaled(0.6)}
    quantised = replace(own, figures=figures, seconds={}, notes=("exported from trial 12 as onnx int8",))
    content = {"format": 1, "trial": EXPORTED, "precision": "int8", "measurement": quantised.to_json()}
    write_json(point_path(record.path, PointId(EXPORTED, "int8")), content)


def _time_elsewhere(record: RunRecord) -> None:
    """A device that finds slow what is fast here, with figures of every second trial."""
    times = {}
    for trial in record.trials():
        if trial.measurement is not None and not trial.measurement.screened and trial.number % 2 == 0:
            ms = BASE_MS - 4 * trial.measurement.figures["latency_ms"].value
            times[trial.number] = Estimate(ms, 0.99 * ms, 1.01 * ms)
    target = Target(DEVICE, {"processor": "Cortex-A76"}, BASE_MS, times, {12: ("drift",)})
    write_json(record.path / "latency" / "targets" / f"{DEVICE}.json", target.to_json())
