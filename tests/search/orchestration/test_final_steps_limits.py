"""The last steps have the guarantees of trials: limits, results that count, and no weights that are left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.evaluate.evaluator import Evaluator
from search.results.baseline_results import read_rows
from search.run_folder.record import read_outcome
from search.study import Parts, Study
from search.testing.known_front import (
    FailingEvaluator,
    KnownFinalMeasurements,
    KnownFront,
    KnownFrontEvaluator,
    known_measurement,
)
from search.testing.simulated import Cut, InlineEngine
from search.trial import Candidate, Failure, FailureKind, Measurement, ScreeningLimit
from search.workers.engine import Finished, Job


class Recording(InlineEngine[Any]):
    """Keeps the jobs that it was given."""

    def __init__(self, jobs: list[Job[Any]]) -> None:
        super().__init__()
        self.jobs = jobs

    def submit(self, job: Job[Any]) -> None:
        self.jobs.append(job)
        super().submit(job)


class Forgetful(InlineEngine[Any]):
    """Says of all work after the trials that its process crashed, after its result was written."""

    def submit(self, job: Job[Any]) -> None:
        self.is_last = job.work_dir.parent.name != "trials"
        super().submit(job)

    def poll(self, wait_s: float) -> tuple[Finished[Any], ...]:
        crash = Failure(FailureKind.SIGNAL, "ended by SIGKILL")
        return tuple(Finished(one.number, crash) if self.is_last else one for one in super().poll(wait_s))


def study_on(engine: Callable[[], InlineEngine[Any]], evaluator: Evaluator | None = None, **overrides: Any) -> Study:
    prepare = KnownFront(evaluator or KnownFrontEvaluator(), final=KnownFinalMeasurements())
    return Study("study.yaml", parts=Parts(prepare=prepare, engine=lambda spec, prepared: engine()), **overrides)


def test_every_piece_has_the_limits_of_a_trial_and_the_joint_timing_its_own_besides(workplace: Path) -> None:
    jobs: list[Job[Any]] = []
    keys = {"search.trials": 6, "search.confirm": 2, "search.trial_minutes": 1, "search.stuck_minutes": 3}
    study = study_on(lambda: Recording(jobs), **keys, **{"latency.seconds": 10}).search()
    first = {job.work_dir.relative_to(study.record.path).parts[0]: job for job in reversed(jobs)}
    assert first.keys() == {"trials", "latency", "baselines", "confirm"}
    assert {job.stuck_s for job in jobs} == {180.0}
    assert {first[name].timeout_s for name in ("trials", "baselines", "confirm")} == {60.0}
    timed = first["latency"].work.args[0]  # type: ignore[attr-defined]
    assert first["latency"].timeout_s == 60.0 + 2 * 3 * 10 * len(timed) and len(timed) > 2


def test_baselines_that_are_asked_for_have_the_limits_of_a_trial(workplace: Path) -> None:
    jobs: list[Job[Any]] = []
    keys = {"search.trials": 4, "baselines": []}
    study_on(InlineEngine, KnownFrontEvaluator(seconds=120.0), **keys).search()
    study_on(lambda: Recording(jobs), KnownFrontEvaluator(seconds=120.0), **keys).measure_baselines(["int8", "random"])
    assert len(jobs) == 6 and {job.timeout_s for job in jobs} == {1200.0}, "ten times the longest trial"
    assert {job.stuck_s for job in jobs} == {1800.0}


def test_a_program_that_times_elsewhere_may_be_silent_for_a_round(workplace: Path) -> None:
    """Two calls for each trial, without a heartbeat between them."""
    jobs: list[Job[Any]] = []
    study_on(lambda: Recording(jobs), **{"search.trials": 12, "latency.runtime": "command:true"}).search()
    timing = next(job for job in jobs if job.work_dir.name == "together")
    assert timing.stuck_s == 2 * 300.0 * len(timing.work.args[0]) > 1800.0  # type: ignore[attr-defined]


def test_a_result_that_was_left_counts_however_its_worker_ended(workplace: Path) -> None:
    study = study_on(Forgetful, **{"search.trials": 5, "search.confirm": 2}).search()
    rows = read_rows(study.record)
    assert len(rows) == 3 and all(row.measured is not None for row in rows), [row.note for row in rows]
    repeats = list(study.record.path.glob("confirm/*"))
    assert repeats and all(isinstance(read_outcome(repeat)[0], Measurement) for repeat in repeats)


def test_a_worker_that_left_no_result_has_failed(workplace: Path) -> None:
    class Killed(Forgetful):
        def poll(self, wait_s: float) -> tuple[Finished[Any], ...]:
            found = super().poll(wait_s)
            for path in (workplace / "runs").glob("prune/known/baselines/*/result.json"):
                path.unlink()
            return found

    study = study_on(Killed, **{"search.trials": 3, "baselines": ["int8"]}).search()
    (row,) = read_rows(study.record)
    assert row.note == "not measured: ended by SIGKILL"


class Quantising(KnownFrontEvaluator):
    """Leaves a checkpoint and its INT8 files, as trials in reduced precision do; the power goes at repeat `cut`."""

    def __init__(self, cut: int = 0) -> None:
        super().__init__()
        object.__setattr__(self, "cut", cut)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        (work_dir / "weights.pt").write_bytes(b"weights")
        (work_dir / "weights_int8.onnx").write_bytes(b"weights")
        (work_dir / "weights_int8_openvino_model").mkdir()
        if work_dir.name.endswith(f"-{self.cut}"):  # type: ignore[attr-defined]
            raise Cut("seeds")
        return known_measurement(candidate)


@pytest.mark.parametrize("cut", [0, 2])
def test_repeats_leave_no_weights_in_any_precision(workplace: Path, cut: int) -> None:
    study = study_on(InlineEngine, Quantising(cut), **{"search.trials": 4, "search.confirm": 4})
    if cut:
        with pytest.raises(Cut):
            study.search()
    else:
        study.search()
    assert len(list(study.record.path.glob("confirm/*"))) >= 2
    assert not list(study.record.path.glob("confirm/*/weights*"))
    assert list(study.record.path.glob("trials/*/weights_int8.onnx"))


def test_a_repeat_that_fails_is_recorded(workplace: Path) -> None:
    class OnlyRepeats(FailingEvaluator):
        def evaluate(
            self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
        ) -> Measurement:
            inner = self.inner if work_dir.parent.name == "trials" else FailingEvaluator({number: "raise"})
            return inner.evaluate(candidate, number, seed, work_dir)

    study = study_on(InlineEngine, OnlyRepeats({}), **{"search.trials": 3, "search.confirm": 2}).search()
    (repeat,) = study.record.path.glob("confirm/*")
    assert isinstance(read_outcome(repeat)[0], Failure) and study.state() == "finished"
