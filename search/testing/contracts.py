"""Contract suites that every proposer, engine and search must pass.

The suites are plain classes of test functions: subclass one in a test module, give the fixture it asks for, and an
implementation is tested against the contract of `Proposer` or `Engine`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from objectives.objective import Estimate
from search.errors import ConfigError
from search.evaluate.evaluator import Evaluator, recorded
from search.propose.proposer import Proposer
from search.run_folder.enqueue import Request
from search.run_folder.record import read_outcome
from search.testing.known_front import (
    DIMENSIONS,
    FailingEvaluator,
    KnownFinalMeasurements,
    KnownFront,
    KnownFrontEvaluator,
    WitnessedEvaluator,
    known_measurement,
)
from search.trial import Candidate, Failure, FailureKind, FinalLatency, Measurement
from search.workers.engine import Engine, Finished, Job

if TYPE_CHECKING:
    from search.study import Study

T = TypeVar("T")
Make = Callable[[int], Engine[Any]]


class ProposerContract:
    """Contract of every Proposer. Provide a fixture `opened`: a function that opens the same storage again."""

    def test_numbers_count_from_zero(self, opened: Callable[[], Proposer]) -> None:
        assert [number for number, _ in _drive(opened(), 12)] == list(range(12))

    def test_candidates_are_in_the_space(self, opened: Callable[[], Proposer]) -> None:
        for _, candidate in _drive(opened(), 12):
            assert all(0.0 <= candidate.ratios[name] <= 0.8 for name in DIMENSIONS)

    def test_pending_comes_back_under_its_number(self, opened: Callable[[], Proposer]) -> None:
        first = opened()
        _drive(first, 3)
        asked = first.ask()
        first.close()
        second = opened()
        history = second.history()
        assert [(p.number, p.candidate) for p in history.pending] == [(asked.number, asked.candidate)]
        assert set(history.told) == set(range(3))
        second.tell(asked.number, known_measurement(asked.candidate))
        assert second.ask().number == asked.number + 1

    def test_telling_twice_changes_nothing(self, opened: Callable[[], Proposer]) -> None:
        proposer = opened()
        asked = proposer.ask()
        proposer.tell(asked.number, known_measurement(asked.candidate))
        proposer.tell(asked.number, Failure(FailureKind.ERROR, "late"))
        assert set(proposer.history().told) == {asked.number}

    def test_a_request_goes_first_and_only_once(self, opened: Callable[[], Proposer]) -> None:
        proposer = opened()
        _drive(proposer, 2)
        wish = Request("one", Candidate(dict.fromkeys(DIMENSIONS, 0.25)))
        proposer.enqueue(wish)
        proposer.enqueue(wish)
        asked = proposer.ask()
        assert (asked.number, asked.candidate, asked.source) == (2, wish.candidate, "user")
        proposer.tell(asked.number, known_measurement(asked.candidate))
        proposer.close()
        again = opened()
        again.enqueue(wish)
        assert again.ask().candidate != wish.candidate

    def test_a_request_outside_the_space_is_refused(self, opened: Callable[[], Proposer]) -> None:
        refused = 0
        for ratios in (dict.fromkeys(DIMENSIONS, 0.95), {"stem": 0.1}):
            try:
                opened().enqueue(Request("far", Candidate(ratios)))
            except ConfigError:
                refused += 1
        assert refused == 2

    def test_a_failed_trial_is_told(self, opened: Callable[[], Proposer]) -> None:
        proposer = opened()
        asked = proposer.ask()
        proposer.tell(asked.number, Failure(FailureKind.NOT_FINITE, "nan"))
        assert proposer.history() == opened().history()
        assert proposer.ask().number == 1


class EngineContract:
    """What every Engine promises. Give a fixture `make`: a function of the most jobs at once."""

    def test_a_result_is_on_disk_when_reported(self, make: Make, tmp_path: Path) -> None:
        engine = make(1)
        job = trial_in(tmp_path, 0)
        engine.submit(job)
        (finished,) = drain(engine, 1)
        assert finished.outcome == known_measurement(candidate_of(0))
        assert read_outcome(job.work_dir) == (finished.outcome, None)
        engine.cancel()

    def test_every_job_is_reported_once(self, make: Make, tmp_path: Path) -> None:
        engine = make(2)
        for number in range(2):
            engine.submit(trial_in(tmp_path, number))
        assert sorted(one.number for one in drain(engine, 2)) == [0, 1]
        assert engine.poll(0.0) == ()
        engine.cancel()

    def test_an_exception_is_a_failure(self, make: Make, tmp_path: Path) -> None:
        engine, failing = make(1), FailingEvaluator({0: "raise", 1: "nan", 2: "memory"})
        kinds = []
        for number in range(3):
            engine.submit(trial_in(tmp_path, number, failing))
            (finished,) = drain(engine, 1)
            assert isinstance(finished.outcome, Failure)
            kinds.append(finished.outcome.kind)
        assert kinds == [FailureKind.ERROR, FailureKind.NOT_FINITE, FailureKind.OUT_OF_MEMORY]
        engine.cancel()

    def test_work_of_any_kind_returns_what_it_returns(self, make: Make, tmp_path: Path) -> None:
        """After a trial: latencies by trial without a result.json, and a file with nothing returned."""
        engine = make(1)
        timing = job_in(tmp_path, 1, partial(KnownFinalMeasurements(shift=2.0).together, {17: candidate_of(17)}, 0))
        outcomes = []
        for job in (trial_in(tmp_path, 0), timing, job_in(tmp_path, 2, _leave_a_note)):
            engine.submit(job)
            outcomes += [finished.outcome for finished in drain(engine, 1)]
        latency = known_measurement(candidate_of(17)).figures["latency_ms"].value
        estimate = Estimate(2 * latency, 0.999 * 2 * latency, 1.001 * 2 * latency)
        assert outcomes == [known_measurement(candidate_of(0)), {17: FinalLatency(estimate, {"flags": []})}, None]
        assert not (timing.work_dir / "result.json").exists()
        assert (tmp_path / "0002" / "note.txt").read_text() == "done"
        engine.cancel()

    def test_cancelled_jobs_are_not_reported(self, make: Make, tmp_path: Path) -> None:
        engine = make(1)
        engine.submit(trial_in(tmp_path, 0, KnownFrontEvaluator(sleep_s=0.5)))
        engine.cancel()
        engine.cancel()
        assert engine.poll(0.0) == ()


class SearchContract:
    """Contract of the files that a search leaves, whichever engine ran its trials.

    Provide fixtures `keys`: the overrides that name the engine, and `make_study` and `workplace` of
    tests/search/conftest.
    """

    def test_files_trials_and_front_are_those_of_a_sequential_search(
        self, keys: Mapping[str, Any], make_study: Callable[..., Study], workplace: Path
    ) -> None:
        from search.study import Parts, Study

        expected = make_study(name="inline", **{"search.trials": 5}).search()
        seen = WitnessedEvaluator(workplace / "begun")
        for trials in (3, 5):  # the second goes on with the first
            parts = Parts(prepare=KnownFront(seen))
            study = Study("study.yaml", parts=parts, **keys, **{"search.trials": trials}).search()
        assert study.trials() == expected.trials()
        assert [trial.number for trial in study.front()] == [trial.number for trial in expected.front()]
        found, wanted = dict(study.snapshot()), dict(expected.snapshot())
        assert {key: found[key] for key in _OF_ANY_ENGINE} == {key: wanted[key] for key in _OF_ANY_ENGINE}
        assert files_of(study.record.path) == files_of(expected.record.path) | {
            f"trials/{number:04d}/{name}" for number in range(5) for name in ("note.txt", "progress.json", "train.log")
        }
        assert [seen.begun(number) for number in range(5)] == [1] * 5


_OF_ANY_ENGINE = ("state", "objectives", "trials", "front", "hypervolume", "picks", "verdict", "groups", "base")


def files_of(run: Path) -> set[str]:
    """Return paths of a run's files, relative to it; of the database only its name, without SQLite's side files."""
    found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("study.db-")}


def job_in(
    folder: Path, number: int, work: Callable[[Path], T], timeout_s: float = 60.0, stuck_s: float = float("inf")
) -> Job[T]:
    """A job with its folder made."""
    work_dir = folder / f"{number:04d}"
    work_dir.mkdir()
    return Job(number, work, work_dir, timeout_s, stuck_s)


def trial_in(
    folder: Path, number: int, evaluator: Evaluator | None = None, timeout_s: float = 60.0
) -> Job[Measurement]:
    """The job of a trial, as the loop makes it; the evaluator is that of the known front by default."""
    measure = partial((evaluator or KnownFrontEvaluator()).evaluate, candidate_of(number), number, number)
    return job_in(folder, number, partial(recorded, measure), timeout_s)


def candidate_of(number: int) -> Candidate:
    """The candidate of `trial_in`."""
    return Candidate({name: 0.1 * (number + 1) for name in DIMENSIONS})


def _leave_a_note(work_dir: Path) -> None:
    (work_dir / "note.txt").write_text("done")


def drain(engine: Engine[T], count: int, limit_s: float = 60.0) -> list[Finished[T]]:
    """Poll until `count` jobs ended."""
    ended: list[Finished[T]] = []
    deadline = time.monotonic() + limit_s
    while len(ended) < count and time.monotonic() < deadline:
        ended += engine.poll(0.2)
    return ended


def _drive(proposer: Proposer, count: int) -> Sequence[tuple[int, Candidate]]:
    asked = []
    for _ in range(count):
        proposal = proposer.ask()
        proposer.tell(proposal.number, known_measurement(proposal.candidate))
        asked.append((proposal.number, proposal.candidate))
    return asked
