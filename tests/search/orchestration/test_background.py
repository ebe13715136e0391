"""A detached search: secrets of the command line reach it, and not the list of processes."""

from __future__ import annotations

import pytest

from search.config.yaml_source import parse_overrides
from search.orchestration.background import WORDS_VARIABLE, handed_over, without_secrets

SAID = (
    *(f"storage={value}" for value in ("null", "~", "sqlite:///a.db", "5", "[postgresql://me@host/d]", "")),
    "notify.command=curl https://hooks.example/s3cret",
    'notify={"command": "curl https://hooks.example/s3cret"}',
)


@pytest.mark.parametrize("said", SAID)
def test_what_is_handed_over_is_read_as_on_the_command_line(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown, variables = without_secrets(["search", "study.yaml", said, "search.trials=5", "--detach"])
    assert shown == ["search", "study.yaml", "search.trials=5", "--detach"]
    monkeypatch.setenv(WORDS_VARIABLE, variables[WORDS_VARIABLE])
    assert handed_over() == parse_overrides([said])


def test_words_are_handed_over_once(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["storage=postgresql://me:hunter2@host/d", "notify.command=mail me"]
    monkeypatch.setenv(WORDS_VARIABLE, without_secrets(words)[1][WORDS_VARIABLE])
    assert handed_over() == parse_overrides(words)
    assert handed_over() == {}
    assert without_secrets(["search", "study.yaml"]) == (["search", "study.yaml"], {})
