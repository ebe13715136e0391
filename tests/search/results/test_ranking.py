"""Fronts and picks of trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from objectives import pareto
from objectives.choice import Bound
from objectives.errors import ObjectiveError
from objectives.objective import Estimate, Objective, objectives_named, register
from search.results.ranking import VolumeTrack, broken, is_feasible, knee, pick, rank
from search.results.verdict import verdict
from search.trial import Candidate, Measurement, PointId, Trial, TrialState


def trial(number: int, accuracy: float, latency: float, same_as: int | None = None) -> Trial:
    figures = {"map50_95": Estimate.exact(accuracy), "latency_ms": Estimate.exact(latency)}
    measured = Measurement(figures=figures, widths={})
    return Trial(number, TrialState.COMPLETE, Candidate({"a": 0.1}, 64, "fp32"), measured, same_as=same_as)


def test_a_network_that_came_up_twice_is_on_the_front_once() -> None:
    objectives = objectives_named(["map50_95", "latency_ms"])
    ranked = rank(
        [trial(0, 0.5, 2.0), trial(1, 0.4, 1.0), trial(2, 0.5, 2.0, same_as=0), trial(3, 0.3, 3.0)], [], objectives
    )
    assert ranked.front == (PointId(0), PointId(1))
    assert [one.number for one in ranked.trials] == [0, 1, 3]


def test_who_lacks_a_limited_figure_is_not_picked_by_it() -> None:
    """An export has no end-to-end latency: the trials that have one are chosen from."""
    objectives = objectives_named(["map50_95", "latency_ms"])
    known = trial(0, 0.5, 2.0)
    known = replace(known, measurement=Measurement({**known.figures, "e2e_ms": Estimate.exact(3.0)}))
    ranked = rank([known, trial(1, 0.6, 1.0)], [], objectives)
    assert pick(ranked, [Bound.budget("e2e_ms", 4.0)], objectives)[0].number == 0
    assert pick(ranked, [Bound.budget("latency_ms", 4.0)], objectives)[0].number == 1
    nobody = rank([trial(1, 0.6, 1.0)], [], objectives)
    with pytest.raises(ObjectiveError, match="trial 1 has no figure for e2e_ms"):
        pick(nobody, [Bound.budget("e2e_ms", 4.0)], objectives)


def test_an_export_without_a_limited_cost_is_not_feasible() -> None:
    objectives, bounds = objectives_named(["map50_95", "latency_ms"]), [Bound.budget("e2e_ms", 4.0)]
    known = trial(0, 0.5, 2.0)
    known = replace(known, measurement=Measurement({**known.figures, "e2e_ms": Estimate.exact(3.0)}))
    export = replace(trial(0, 0.6, 1.0), candidate=Candidate({"a": 0.1}, 64, "int8"), exported=True)
    ranked = rank([known, export], bounds, objectives)
    assert ranked.trials == (known,) and not is_feasible(export, bounds) and is_feasible(trial(1, 0.6, 1.0), bounds)
    assert broken(export, bounds, None) == ("no e2e_ms was measured of an export, against e2e_ms<=4",)
    assert is_feasible(export, [Bound.budget("latency_ms", 4.0)]) and broken(known, bounds, None) == ()


def base_of(accuracy: float, latency: float) -> Measurement:
    return Measurement({"map50_95": Estimate.exact(accuracy), "latency_ms": Estimate.exact(latency)})


OBJECTIVES = objectives_named(["map50_95", "latency_ms"])


def test_a_base_that_finds_nothing_is_nothing_to_compare_with() -> None:
    trials = [trial(0, 0.0, 1.0)]
    said = verdict(rank(trials, [], OBJECTIVES), base_of(0.0, 2.0), OBJECTIVES, 1)
    assert "Worth it" not in said and "the base itself has a mAP50-95 of 0" in said
    assert verdict(rank(trials, [], OBJECTIVES), base_of(0.005, 2.0), OBJECTIVES, 1).startswith("Worth it:")


def test_what_ties_with_a_front_member_can_still_be_worth_it() -> None:
    """A trial as accurate as the base and faster, beaten on the front by one that is faster still."""
    wide = {"map50_95": Estimate(0.45, 0.4, 0.6), "latency_ms": Estimate.exact(1.0)}
    faster = replace(trial(1, 0, 0), measurement=Measurement(wide))
    ranked = rank([trial(0, 0.5, 1.5), faster], [], OBJECTIVES)
    assert ranked.front == (PointId(1),) and ranked.undominated == (PointId(0), PointId(1))
    assert verdict(ranked, base_of(0.5, 2.0), OBJECTIVES, 2).startswith("Worth it: trial 0")


def test_an_error_is_an_accuracy_of_which_less_is_better() -> None:
    register(Objective("mae_of_test", "px", "min", "MAE"))
    objectives = objectives_named(["mae_of_test", "latency_ms"])

    def row(error: float, latency: float) -> dict[str, Estimate]:
        return {"mae_of_test": Estimate.exact(error), "latency_ms": Estimate.exact(latency)}

    trials = [
        Trial(number, TrialState.COMPLETE, Candidate({}), Measurement(row(*figures)))
        for number, figures in enumerate([(4.05, 1.0), (4.5, 0.5), (9.0, 0.4)])
    ]
    ranked = rank(trials, [], objectives)
    base = Measurement(row(4.0, 2.0))
    assert verdict(ranked, base, objectives, 3) == (
        "Worth it: trial 0 has 50 % less latency than the base (1 ms instead of 2 ms) "
        "at a MAE of 4.05 px instead of 4 px."
    )
    assert pick(ranked, [], objectives)[0].number == 0
    assert pick(ranked, [Bound.parse("latency_ms<=0.6")], objectives)[0].number == 1
    assert knee(ranked, objectives)[0].number == 1
    volumes = VolumeTrack().upto(ranked, objectives, base)
    assert 0 < volumes[0]["value"] < volumes[-1]["value"]


def test_a_trial_that_ends_out_of_order_adds_its_own_hypervolume_and_those_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight workers: every trial ends before up to seven earlier ones. What is computed does not grow with the run."""
    random = np.random.default_rng(0)
    trials = [trial(number, *random.random(2)) for number in range(120)]
    ended = sorted(trials, key=lambda one: one.number + 7 * random.random())
    added: list[int] = []
    add = pareto.GrowingVolume.add
    monkeypatch.setattr(pareto.GrowingVolume, "add", lambda self, point: (added.append(1), add(self, point))[1])
    track, base = VolumeTrack(), base_of(0.9, 0.9)
    for count in range(1, len(ended) + 1):
        last = track.upto(rank(ended[:count], [], OBJECTIVES), OBJECTIVES, base)
    assert len(trials) <= len(added) <= 8 * len(trials)
    assert last == VolumeTrack().upto(rank(trials, [], OBJECTIVES), OBJECTIVES, base)


def test_hypervolumes_follow_figures_that_were_measured_again() -> None:
    trials, base = [trial(0, 0.3, 1.0), trial(1, 0.5, 2.0), trial(2, 0.4, 1.5)], base_of(0.5, 3.0)
    track = VolumeTrack()
    before = track.upto(rank(trials, [], OBJECTIVES), OBJECTIVES, base)
    again = [trials[0], trial(1, 0.5, 1.2), trials[2]]
    after = track.upto(rank(again, [], OBJECTIVES), OBJECTIVES, base)
    assert after[0] == before[0] and after[1]["value"] > before[1]["value"]
    assert after == VolumeTrack().upto(rank(again, [], OBJECTIVES), OBJECTIVES, base)
    slower = base_of(0.5, 6.0)
    assert track.upto(rank(again, [], OBJECTIVES), OBJECTIVES, slower)[0]["value"] > after[0]["value"]
