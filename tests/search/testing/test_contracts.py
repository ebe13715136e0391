"""The real proposer and engine, and the fake engine, held to the contract suites of search.testing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from objectives.choice import Bound
from objectives.pareto import hypervolume
from search.propose.initial_candidates import opening
from search.propose.optuna_backend.storage import sqlite_url
from search.propose.optuna_proposer import OptunaProposer
from search.propose.proposer import Proposer
from search.space import Space
from search.testing.contracts import EngineContract, Make, ProposerContract, SearchContract, drain, trial_in
from search.testing.known_bases import known_joint
from search.testing.known_front import OBJECTIVES, PRELOAD, FailingEvaluator, known_measurement, known_space
from search.testing.simulated import InlineEngine
from search.trial import Candidate, Failure, FailureKind, Measurement
from search.workers.local import LocalEngine

Opened = Callable[[], Proposer]


class TestOptunaProposer(ProposerContract):
    @pytest.fixture(params=["auto", "nsga2", "qmc"])
    def opened(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
        space, made = known_space(depth=request.param != "nsga2"), []

        def make() -> Proposer:
            proposer = OptunaProposer(
                sqlite_url(tmp_path / "study.db"),
                "known",
                space,
                OBJECTIVES,
                bounds=(Bound.parse("latency_ms<=8"),),
                sampler=request.param,
                opening=opening(space),
            )
            made.append(proposer)
            return proposer

        yield make
        for proposer in made:
            proposer.close()


class TestLocalEngine(EngineContract):
    @pytest.fixture
    def make(self) -> Iterator[Make]:
        made: list[LocalEngine[Any]] = []

        def make(workers: int) -> LocalEngine[Any]:
            made.append(LocalEngine(workers, preload=PRELOAD))
            return made[-1]

        yield make
        for engine in made:
            engine.cancel()

    def test_crash_signal_and_time_out_are_typed(self, tmp_path: Path) -> None:
        engine = LocalEngine[Measurement](preload=PRELOAD)
        failing = FailingEvaluator({0: "exit", 1: "signal", 2: "hang"})
        found = []
        for number, timeout_s in ((0, 60.0), (1, 60.0), (2, 1.0)):
            engine.submit(trial_in(tmp_path, number, failing, timeout_s))
            (finished,) = drain(engine, 1)
            assert isinstance(finished.outcome, Failure)
            found.append((finished.outcome.kind, finished.outcome.message))
        assert [kind for kind, _ in found] == [FailureKind.CRASH, FailureKind.SIGNAL, FailureKind.TIMEOUT]
        assert "exit code 7" in found[0][1] and "SIGSEGV" in found[1][1] and "0.0167 minutes" in found[2][1]

    def test_output_and_traceback_go_to_files(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        engine = LocalEngine[Measurement](preload=PRELOAD)
        job = trial_in(tmp_path, 0, FailingEvaluator({0: "babble"}))
        engine.submit(job)
        drain(engine, 1)
        assert "a line that belongs into train.log" in (job.work_dir / "train.log").read_text()
        assert "Traceback" in (job.work_dir / "error.txt").read_text()
        assert capfd.readouterr() == ("", "")


class TestLocalSearch(SearchContract):
    @pytest.fixture
    def keys(self) -> dict[str, str]:
        return {}


class TestInlineEngine(EngineContract):
    @pytest.fixture
    def make(self) -> Make:
        return lambda workers: InlineEngine(workers=workers)


def _proposer(folder: Path, **options: object) -> OptunaProposer:
    url = sqlite_url(folder / "study.db")
    return OptunaProposer(url, "known", known_space(), OBJECTIVES, **options)  # type: ignore[arg-type]


def test_a_reader_does_not_block_the_writer(tmp_path: Path) -> None:
    proposer = _proposer(tmp_path)
    reader = sqlite3.connect(tmp_path / "study.db")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM trials").fetchall()
    asked = proposer.ask()
    proposer.tell(asked.number, known_measurement(asked.candidate))
    reader.close()
    proposer.close()


def test_optuna_sees_values_constraints_and_attributes(tmp_path: Path) -> None:
    import optuna

    proposer = _proposer(tmp_path, bounds=(Bound.parse("latency_ms<=8"),))
    asked = proposer.ask()
    measured = known_measurement(asked.candidate)
    proposer.tell(asked.number, measured)
    proposer.close()
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    (trial,) = optuna.load_study(study_name="known", storage=storage).trials
    assert trial.values == [measured.figures[objective.name].value for objective in OBJECTIVES]
    assert trial.user_attrs["widths"] == measured.widths
    assert trial.constraints["latency_ms<=8"] == pytest.approx(measured.figures["latency_ms"].value / 8 - 1)
    storage.remove_session()
    storage.engine.dispose()


def test_a_trial_that_the_user_enqueued_goes_first(tmp_path: Path) -> None:
    proposer = _proposer(tmp_path)
    proposer._study.enqueue_trial({"stem": 0.25, "neck": 0.25, "head": 0.25})
    asked = proposer.ask()
    assert (asked.number, asked.source, asked.candidate.ratios["neck"]) == (0, "user", 0.25)
    proposer.close()


def test_a_file_that_is_no_database_is_set_aside(tmp_path: Path) -> None:
    content = "not a database, but long enough to be looked at as one" * 50
    (tmp_path / "study.db").write_text(content)
    proposer = _proposer(tmp_path)
    assert proposer.ask().number == 0 and (tmp_path / "study.db.corrupt").read_text() == content
    proposer.close()


def test_a_guided_search_gets_closer_to_the_known_front_than_chance(tmp_path: Path) -> None:
    volumes = {}
    for sampler in ("auto", "random"):
        (tmp_path / sampler).mkdir()
        proposer = _proposer(tmp_path / sampler, sampler=sampler, opening=opening(known_space()))
        rows = []
        for _ in range(30):
            asked = proposer.ask()
            measured = known_measurement(asked.candidate)
            rows.append(measured.figures)
            proposer.tell(asked.number, measured)
        proposer.close()
        volumes[sampler] = hypervolume(rows, OBJECTIVES, {"map50_95": 0.4, "latency_ms": 10.5, "params_m": 3.15})
    assert volumes["auto"] > volumes["random"]


class TestProposersOfTwoBases(ProposerContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Opened:
        storage, space = sqlite_url(tmp_path / "study.db"), known_joint()
        return lambda: OptunaProposer(storage, "known", space, OBJECTIVES, sampler="random")


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2", pytest.param("gp", marks=pytest.mark.slow)])
def test_the_base_is_one_more_choice_of_every_sampler(sampler: str, tmp_path: Path) -> None:
    """Each candidate has the dimensions of its own base; screened or not, both are drawn."""
    space = known_joint()
    proposer = OptunaProposer(sqlite_url(tmp_path / "study.db"), "known", space, OBJECTIVES, sampler=sampler)
    bases = []
    for _ in range(10):
        proposal = proposer.ask()
        own = space.spaces[proposal.candidate.base]
        assert proposal.candidate == own_candidate(proposal.candidate, own)
        proposer.tell(proposal.number, known_measurement(proposal.candidate))
        bases.append(proposal.candidate.base)
    proposer.close()
    assert set(bases) == {0, 1}


def own_candidate(candidate: Candidate, space: Space) -> Candidate:
    """The candidate by way of the vector of its own base's space."""
    return replace(space.candidate(space.vector(candidate)), base=candidate.base)
