"""A run folder that was copied, linked or has an unusual path is read, picked from and searched on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.study import Parts, Study
from search.testing.known_front import KnownFront, KnownFrontEvaluator
from search.testing.simulated import InlineEngine, SimulatedClock
from tests.search.conftest import MakeStudy, run

LONG = "/".join(["a-folder-whose-name-is-long-" * 8] * 15)
"""More than 3,000 characters in 15 folders; the system takes 4,096 a path and 255 a name."""


def loaded(path: Path, trials: int) -> Study:
    clock = SimulatedClock()
    parts = Parts(
        prepare=KnownFront(KnownFrontEvaluator()),
        engine=lambda spec, prepared: InlineEngine(clock, spec.search.workers),
        clock=clock,
    )
    return Study.load(path, parts=parts, **{"search.trials": trials})


def copied(made: Path, place: Path) -> Path:
    shutil.copytree(made, place)
    return place


def moved(made: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    made.rename(place)
    return place


def linked(made: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(made)
    return place


@pytest.mark.parametrize("way", [copied, moved, linked])
@pytest.mark.parametrize("name", ["elsewhere/run", "Läufe/模型 №1 (копия) [b]'\"%20#?&"])
def test_it_is_read_and_goes_on(way: object, name: str, make_study: MakeStudy, tmp_path: Path) -> None:
    whole = make_study(**{"search.trials": 8, "budgets": {"edge": {"latency_ms": 8}}}).search()
    made = whole.record.path
    assert callable(way)
    place = way(made, tmp_path / name)
    for words in (("status", str(place)), ("show", f"{place}:0"), ("report", str(place)), ("ls", str(place))):
        said = run(*words)
        assert said.exit_code == 0, said.output
    assert (place / "report.html").is_file()
    study = loaded(place, 10)
    assert study.pick(budget="edge").trial is not None
    assert [trial.number for trial in study.search().trials()] == list(range(10))
    assert study.record.path == place.resolve()
    assert len(list((place / "trials").iterdir())) == 10


def test_a_path_too_long_for_sqlite_can_be_read_and_says_so(make_study: MakeStudy, tmp_path: Path) -> None:
    whole = make_study(**{"search.trials": 3}).search()
    place = copied(whole.record.path, tmp_path / LONG)
    for words in (("status", str(place)), ("report", str(place)), ("ls", str(place))):
        said = run(*words)
        assert said.exit_code == 0, said.output
    with pytest.raises(ConfigError, match=r"too long for SQLite: \d+ bytes, at most 504"):
        loaded(place, 4).search()
    assert len(loaded(linked(place, tmp_path / "short"), 4).trials()) == 3
    shutil.move(place, tmp_path / "moved")
    assert len(loaded(tmp_path / "moved", 4).search().trials()) == 4


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["y" * 200] * 30)])
def test_a_path_that_the_system_does_not_take_is_named(name: str, workplace: Path) -> None:
    for word in ("status", "report", "resume", "pick"):
        said = run(word, name)
        assert said.exit_code == 2 and "File name too long" in said.output, said.output
