"""A finished run of any length, written at once: what readers of long runs are measured with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from objectives.objective import Estimate
from search.config.spec import StudySpec
from search.run_folder.record import RunRecord, candidate_row, outcome_row
from search.testing.known_front import DIMENSIONS, KnownFront, known_measurement
from search.trial import Candidate, Measurement

_NOISE = 0.004
"""Standard deviation of the accuracy between trainings."""
_PLAN_BYTES = 8000
"""About the plan of a YOLO of size n."""


def write_finished_run(folder: Path, trials: int, seed: int = 0) -> RunRecord:
    """Write a run of the known front that ended after `trials` trials, without a study.db, which no reader opens.

    Half of the candidates lie near the front, as a search's do; accuracies vary as between trainings. Nothing is
    synced to the disk.

    Args:
        folder: of the run's model and data, and of its project `runs`.
        trials: number of complete trials; seed: of candidates and accuracies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "best.pt").write_bytes(b"weights")
    (folder / "data.yaml").write_text("path: .\ntrain: images\nval: images\n")
    keys: dict[str, Any] = {
        "model": str(folder / "best.pt"),
        "data": str(folder / "data.yaml"),
        "project": str(folder / "runs"),
        "name": f"finished-{trials}",
        "budgets": {"edge": {"latency_ms": 6}},
        "search": {"trials": trials},
    }
    spec = StudySpec.model_validate(keys)
    record = RunRecord(folder / "runs" / spec.run_name)
    record.write_args(spec.resolved(), {})
    KnownFront()(spec, record)
    random = np.random.default_rng(seed)
    for number in range(trials):
        candidate = _candidate(number, random)
        _write(record.trial_dir(number) / "candidate.json", candidate_row(number, candidate, "tpe"))
        _write(record.trial_dir(number) / "result.json", outcome_row(_measured(candidate, random)))
    ending = {"format": 1, "reason": "trials", "sentence": f"all {trials} trials are done", "closed": True}
    _write(record.ending_path, {**ending, "limits": {}})
    return record


def _candidate(number: int, random: np.random.Generator) -> Candidate:
    if number % 2:
        return Candidate(dict(zip(DIMENSIONS, random.uniform(0, 0.8, len(DIMENSIONS)).tolist(), strict=True)))
    share = random.uniform(0.05, 0.75)  # the front: a ratio in proportion to 1 / weight
    ratios = share / np.arange(1, 1 + len(DIMENSIONS)) + random.uniform(0, 0.05, len(DIMENSIONS))
    return Candidate(dict(zip(DIMENSIONS, ratios.tolist(), strict=True)))


def _measured(candidate: Candidate, random: np.random.Generator) -> Measurement:
    exact = known_measurement(candidate)
    value = exact.figures["map50_95"].value + _NOISE * random.standard_normal()
    accuracy = Estimate(value, value - 2 * _NOISE, value + 2 * _NOISE)
    return replace(exact, figures={**exact.figures, "map50_95": accuracy}, plan="p" * _PLAN_BYTES)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
