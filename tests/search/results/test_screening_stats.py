"""What a cheap score lets expect of the trials that it ended."""

from __future__ import annotations

import pytest

from objectives.objective import Estimate, objectives_named
from search.results.screening_stats import expectations, rungs
from search.trial import Candidate, Measurement, Trial, TrialState

OBJECTIVES = objectives_named(["map50_95", "latency_ms"])
BASE = Measurement({"map50_95": Estimate.exact(0.6), "latency_ms": Estimate.exact(2.0)})


def trial(number: int, score: float | None, accuracy: float | None = None) -> Trial:
    """Measured, or screened where there is no accuracy."""
    figures = {"latency_ms": Estimate.exact(1.0)}
    if accuracy is None:
        return Trial(number, TrialState.SCREENED, Candidate({}), Measurement(figures, score=score, screened=True))
    measured = Measurement({**figures, "map50_95": Estimate.exact(accuracy)}, score=score)
    return Trial(number, TrialState.COMPLETE, Candidate({}), measured)


KNOWN = [trial(0, 0.1, 0.5), trial(1, 0.2, 0.4), trial(2, 0.4, 0.2)]


@pytest.mark.parametrize(("score", "expected"), [(0.0, 0.6), (0.1, 0.5), (0.3, 0.3), (9.0, 0.2)])
def test_a_screened_trial_stands_on_the_curve_of_the_others(score: float, expected: float) -> None:
    found = expectations([*KNOWN, trial(3, score)], OBJECTIVES, BASE)
    assert found == {3: {"map50_95": pytest.approx(expected)}}


def test_little_evidence_lets_expect_nothing() -> None:
    assert expectations([*KNOWN[:2], trial(3, 0.3)], OBJECTIVES, BASE) == {}
    assert expectations([*KNOWN, trial(3, None)], OBJECTIVES, BASE) == {}
    assert expectations([*KNOWN, trial(3, 0.3)], OBJECTIVES, None) == {}
    assert expectations([*KNOWN, trial(3, 0.3)], objectives_named(["latency_ms"]), BASE) == {}


def test_the_order_of_scores_is_held_against_that_of_accuracies() -> None:
    assert rungs([*KNOWN, trial(3, 0.3)], OBJECTIVES) == [
        {"name": "outputs before the fine-tune", "correlation": 1.0, "trials": 3}
    ]
    assert rungs(KNOWN[:2], OBJECTIVES) == []
