"""Fronts and picks of trials."""

from __future__ import annotations

from objectives.objective import Estimate, objectives_named
from search.analysis import rank
from search.trial import Candidate, Measurement, Trial, TrialState


def trial(number: int, accuracy: float, latency: float, same_as: int | None = None) -> Trial:
    figures = {"map50_95": Estimate.exact(accuracy), "latency_ms": Estimate.exact(latency)}
    measured = Measurement(figures=figures, widths={})
    return Trial(number, TrialState.COMPLETE, Candidate({"a": 0.1}, 64, "fp32"), measured, same_as=same_as)


def test_a_network_that_came_up_twice_is_on_the_front_once() -> None:
    objectives = objectives_named(["map50_95", "latency_ms"])
    ranked = rank(
        [trial(0, 0.5, 2.0), trial(1, 0.4, 1.0), trial(2, 0.5, 2.0, same_as=0), trial(3, 0.3, 3.0)], [], objectives
    )
    assert ranked.front == (0, 1)
    assert [one.number for one in ranked.trials] == [0, 1, 3]
