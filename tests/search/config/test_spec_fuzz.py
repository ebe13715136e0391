"""Random studies and command lines in short: `make fuzz` runs them for as long as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import fuzz

_QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fuzz.starting_folder(tmp_path)
    return tmp_path


@_QUICK
@given(text=fuzz.studies(), words=fuzz.words())
def test_a_study_is_accepted_or_refused_by_one_message(place: Path, text: str, words: list[str]) -> None:
    fuzz.check_study(place, text, words)


@_QUICK
@given(text=fuzz.studies(), words=fuzz.words(), order=st.sampled_from(fuzz.ORDERS))
def test_the_keys_of_prune_are_too(place: Path, text: str, words: list[str], order: type[fuzz.Order]) -> None:
    fuzz.check_keys(place, text, words, order)


def test_the_study_that_is_changed_is_accepted(place: Path) -> None:
    assert fuzz.check_study(place, fuzz.yaml.safe_dump(fuzz.STUDY), []) == "accepted"


def test_an_internal_error_is_seen(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(fuzz, "load_spec", broken)
    with pytest.raises(AssertionError, match="internal error: KeyError"):
        fuzz.check_study(place, "", [])
