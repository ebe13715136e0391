"""Files that were damaged: found, named, set aside; what is derived is drawn again, and nothing is guessed."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.errors import ConfigError, NotComparable, RunCorrupt
from search.propose.optuna_proposer import OptunaProposer
from search.run_folder import environment
from search.run_folder.quarantine import set_aside
from search.run_folder.storage_errors import open_file
from search.run_folder.weights import FILE
from search.study import Study
from search.testing.known_front import FailingEvaluator, KnownFrontEvaluator
from search.testing.simulated import Cut
from search.trial import Measurement, TrialState
from tests.search.conftest import MakeStudy, run
from tests.search.hearing import noting


def test_names_of_what_is_set_aside_are_free(tmp_path: Path) -> None:
    for content in ("one", "two", "three"):
        (tmp_path / "study.db").write_text(content)
        (tmp_path / "study.db-wal").write_text(f"log of {content}")
        set_aside(tmp_path / "study.db")
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found["study.db.corrupt"] == "one" and found["study.db.corrupt-3"] == "three"
    assert found["study.db.corrupt-2-wal"] == "log of two" and len(found) == 6


def damage(path: Path, way: str) -> None:
    content = path.read_bytes()
    if way == "missing":
        path.unlink()
        return
    pages = b"\xff" * 8192
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "overwritten": content[:8192] + pages + content[16384:],
            "text": b"not a database, but long enough to be looked at as one" * 50,
        }[way]
    )


def sequence(study: Study) -> list[tuple[Any, ...]]:
    return [(trial.candidate, trial.state, trial.measurement, trial.same_as) for trial in study.trials()]


@pytest.mark.parametrize("way", ["truncated", "overwritten", "text", "missing"])
def test_a_damaged_study_db_is_set_aside_and_rebuilt(way: str, make_study: MakeStudy, workplace: Path) -> None:
    """The search that goes on proposes what it would have proposed without the damage."""
    options = {"search.sampler": "tpe", "space.depth": True}
    whole = sequence(make_study(**options, **{"search.trials": 16}).search())
    shutil.rmtree(workplace / "runs")
    study = make_study(**options, **{"search.trials": 12}).search()
    before = sequence(study)
    damage(study.record.study_db, way)
    notes: list[str] = []
    again = make_study(**options, **{"search.trials": 16})
    again.search([noting(notes)])
    assert sequence(again)[:12] == before and sequence(again) == whole
    assert study.record.study_db.with_name("study.db.corrupt").is_file() == (way != "missing")
    said = "study.db was damaged or missing: rebuilt from 12 result.json and 12 candidate.json"
    assert said in notes and said in (study.record.path / "search.log").read_text()
    assert again.snapshot()["environment"]["study.db"] == said
    make_study(**options, **{"search.trials": 17}).search()
    assert study.record.read_environment()["study.db"] == said


@pytest.mark.parametrize("cut_at", [0, 1, 6])
def test_a_rebuilding_that_is_cut_begins_again(
    cut_at: int, make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a failure, a copy and a trial that was running when the search was killed."""
    options = {"search.sampler": "random", "search.trials": 12}
    evaluator = FailingEvaluator({2: "raise"}, KnownFrontEvaluator(round_to=32))
    with pytest.raises(Cut):
        make_study(evaluator, cut_at=8, **options).search()
    study = make_study(evaluator, **options)
    before = sequence(study)
    assert any(trial.same_as is not None for trial in study.trials()) and study.trials()[-1].outcome is None
    damage(study.record.study_db, "text")
    tell, told = OptunaProposer.tell, list[int]()

    def cut(self: OptunaProposer, number: int, *given: Any) -> None:
        if number == cut_at:
            raise Cut("power")
        told.append(number)
        tell(self, number, *given)

    with monkeypatch.context() as patch:
        patch.setattr(OptunaProposer, "tell", cut)
        with pytest.raises(Cut):
            study.search()
    assert len(told) == cut_at
    again = make_study(evaluator, **options).search()
    ended = len([trial for trial in before if trial[1] != TrialState.STOPPED])
    assert sequence(again)[:ended] == before[:ended] and len(again.trials()) == 12
    assert not list(study.record.path.glob("study.db.rebuilding"))


def test_nothing_is_rebuilt_around_a_gap(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 5}).search()
    study.record.study_db.unlink()
    shutil.rmtree(study.record.trial_dir(2))
    with pytest.raises(RunCorrupt, match=r"trials \[0, 1, 3, 4\] have a result.json but are not in study.db"):
        make_study(**{"search.trials": 6}).search()


def test_a_whole_study_db_is_left_alone(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 2}).search()
    open_file(study.record.path / "study.db", 1.0)
    assert not list(study.record.path.glob("*.corrupt*"))


@pytest.mark.parametrize("content", ["", '{"state": "fini', "[1]", "\x00\x01"])
def test_what_is_derived_is_drawn_again(content: str, make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 3}).search()
    before = study.snapshot()
    for name in ("snapshot.json", "results.csv", "pareto.csv"):
        (study.record.path / name).write_text(content)
    again = Study.load(study.record.path)
    assert again.state() == "finished"
    assert again.snapshot()["trials"] == before["trials"]
    assert run("status", str(study.record.path)).exit_code == 0
    make_study(**{"search.trials": 4}).search()
    assert len(json.loads(study.record.snapshot_path.read_text())["trials"]) == 4
    assert (study.record.path / "results.csv").read_text().count("\n") == 5


@pytest.mark.parametrize("content", [b"", b'{"curves": {"a', b"[1]", b"\xff\xfe"])
def test_a_damaged_cache_is_set_aside_and_measured_again(content: bytes, tmp_path: Path) -> None:
    from search.evaluate import importance_scores
    from search.prepare import latency_probes, sensitivity_curves

    for name in (sensitivity_curves.FILE, latency_probes.FILE, latency_probes.MODEL, "scores-taylor.npz"):
        (tmp_path / name).write_bytes(content)
    assert sensitivity_curves.read_curves(tmp_path) == {} and latency_probes.read_probes(tmp_path) == ()
    assert (
        latency_probes.read_model(tmp_path) is None
        and importance_scores._stored(tmp_path / "scores-taylor.npz") is None
    )
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".corrupt"] * 4


def _with_weights(study: Study, content: bytes) -> Path:
    """Weights of trial 1 as a real evaluator leaves them, and their hash in its result."""
    path = study.record.trial_dir(1) / FILE
    path.write_bytes(content)
    measured: Measurement | None = study.trials()[1].measurement
    assert measured is not None
    study.record.write_outcome(1, replace(measured, weights=hashlib.sha256(content).hexdigest()))
    return path


def test_weights_that_changed_are_found_by_their_hash(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 3}).search()
    path = _with_weights(study, b"a network" * 100)
    assert study.trial(1).weights() == path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunCorrupt, match=r"not those that were measured; they are weights.pt.corrupt now") as caught:
        study.trial(1).weights()
    assert f"paretoprune finetune {study.record.path}:1" in str(caught.value)
    with pytest.raises(ConfigError, match="were not kept"):
        study.trial(1).weights()


def test_weights_of_a_run_that_knew_no_hashes_are_taken(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 2}).search()
    path = study.record.trial_dir(1) / FILE
    path.write_bytes(b"older")
    assert study.trial(1).weights() == path


def test_other_versions_are_refused_with_a_diff(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(**{"search.trials": 2}).search()
    here: dict[str, Any] = environment.environment()
    monkeypatch.setattr(environment, "environment", lambda: {**here, "torch": "1.0", "numpy": "1.0"})
    with pytest.raises(NotComparable) as caught:
        make_study(**{"search.trials": 3}).search()
    assert f"torch: {here['torch']} in the run, 1.0 now" in str(caught.value) and "numpy" not in str(caught.value)
    assert f"pip install torch=={here['torch']}" in str(caught.value)
