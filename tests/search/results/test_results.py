"""Results are built once per event, and what follows from them is computed once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from search.results import ranking, remeasured, results
from search.results.results import Results
from tests.search.conftest import MakeStudy
from tests.search.hearing import after_trials


def test_an_ended_trial_is_read_and_ranked_once(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshot, limits, weights and whoever listens get the same results, also where the search may end early."""
    calls: list[str] = []

    def counting(name: str, function: Any) -> Any:
        return lambda *given, **named: (calls.append(name), function(*given, **named))[1]

    monkeypatch.setattr(ranking, "rank", counting("rank", ranking.rank))
    monkeypatch.setattr(results, "refined", counting("read", remeasured.refined))
    study = make_study(**{"search.trials": 6, "search.hours": 9, "search.patience": 5, "baselines": []})
    per_trial: list[list[str]] = []

    def look(trial: Any) -> None:
        assert trial.number in {one.number for one in study.trials()} and study.front()
        per_trial.append(calls.copy())
        calls.clear()

    study.search([after_trials(look)])
    assert per_trial[1:] == [["read", "rank"]] * 5


def test_results_do_not_change(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 3}).search()
    found = study.results()
    with pytest.raises(FrozenInstanceError):
        found.trials = ()  # type: ignore[misc]
    assert found.front is found.front and found.searched is found.ranked
    assert found.here is found and found == Results.read(study.record, study.spec)
    make_study(**{"search.trials": 5}).search()
    assert len(found.trials) == 3 and len(Results.read(study.record, study.spec).trials) == 5
