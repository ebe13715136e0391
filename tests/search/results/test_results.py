"""Results are built once per event, and what follows from them is computed once."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from objectives.objective import Estimate
from search.results import ranking, remeasured, results
from search.results.remeasured import confirmed
from search.results.results import Results
from search.trial import Measurement
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


def test_resamples_of_several_trainings_are_averaged_where_all_have_them() -> None:
    """Each resample is one draw of images, the same for every seed."""
    runs = [
        Measurement({"map50_95": Estimate.exact(value)}, replicates={"map50_95": (value, value + 0.2), "top1": (1.0,)})
        for value in (0.4, 0.6)
    ]
    found = confirmed(runs[0], [replace(runs[1], replicates={"map50_95": (0.6, 0.8)})])
    assert found.seeds == 2 and found.replicates.keys() == {"map50_95"}
    assert found.replicates["map50_95"] == pytest.approx((0.5, 0.7))
