"""The verdict against the baselines: won, lost, within the error, faster than every trial."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from objectives.objective import Estimate, Objective, objectives_named, register
from search.results.baseline_results import BaselineResult
from search.results.ranking import rank
from search.results.verdict import compared_verdict
from search.trial import Candidate, Failure, FailureKind, Measurement, Trial, TrialState

OBJECTIVES = objectives_named(("map50_95", "latency_ms"))


def _figures(accuracy: float, latency: float, error: float = 0.002) -> dict[str, Estimate]:
    return {
        "map50_95": Estimate(accuracy, accuracy - error, accuracy + error),
        "latency_ms": Estimate(latency, 0.995 * latency, 1.005 * latency),
    }


def _verdict(trials: list[tuple[float, float]], *rows: BaselineResult) -> str:
    found = [
        Trial(number, TrialState.COMPLETE, Candidate({}), Measurement(_figures(*one)))
        for number, one in enumerate(trials)
    ]
    base = Measurement(_figures(0.625, 5.0))
    return compared_verdict(rank(found, [], OBJECTIVES), rows, base, OBJECTIVES, len(found))


def _row(name: str, accuracy: float, latency: float, kind: str = "lower_size", error: float = 0.002) -> BaselineResult:
    return BaselineResult(name, kind, name, Measurement(_figures(accuracy, latency, error)))


SMALLER = _row("the base at 480 px", 0.58, 3.4)


def test_pruning_is_held_against_the_row_at_the_same_latency() -> None:
    assert _verdict([(0.619, 3.4), (0.5, 2.0)], SMALLER) == (
        "Worth it: trial 0 has 32 % less latency than the base (3.4 ms instead of 5 ms) at -0.6 points of mAP50-95. "
        "At 3.4 ms pruning keeps 0.619; the base at 480 px has 0.580 at that latency."
    )


def test_the_hardest_rival_is_named() -> None:
    said = _verdict([(0.619, 3.4), (0.5, 2.0)], SMALLER, _row("uniform 0.3", 0.61, 3.45, "uniform"))
    assert said.endswith("At 3.4 ms the search keeps 0.619; uniform 0.3 has 0.610 at that latency.")


def test_pruning_loses_where_a_row_is_as_fast_and_better() -> None:
    assert _verdict([(0.619, 3.4), (0.6, 3.0)], _row("the base in INT8", 0.622, 3.1)) == (
        "Not worth it: the base in INT8 has 0.622 at 3.1 ms; trial 1, the best within that latency, has 0.600."
    )
    assert _verdict([(0.619, 3.4)], _row("small.pt", 0.622, 3.0, "sibling")) == (
        "Not worth it: small.pt has 0.622 at 3 ms, and no trial has so little latency."
    )


def test_a_row_that_is_better_elsewhere_is_not_hidden() -> None:
    said = _verdict([(0.619, 3.4), (0.4, 2.0)], SMALLER, _row("the base at 320 px", 0.5, 2.05))
    assert said.startswith("Worth it: trial 0")
    assert said.endswith(
        "But the base at 320 px has 0.500 at 2.05 ms; trial 1, the best within that latency, has 0.400."
    )


def test_a_row_faster_than_every_trial_is_said_only_when_there_is_nothing_else() -> None:
    tiny = _row("the base at 320 px", 0.3, 1.0)
    assert _verdict([(0.619, 3.4)], tiny).endswith(
        "But the base at 320 px has 0.300 at 1 ms, and no trial has so little latency."
    )
    assert "320" not in _verdict([(0.619, 3.4)], tiny, SMALLER)


def test_a_difference_within_the_error_is_called_that() -> None:
    said = _verdict([(0.619, 3.4)], _row("the base at 480 px", 0.61, 3.4, error=0.01))
    assert said.endswith("the base at 480 px has 0.610 at that latency, which is within the error.")


def test_rows_that_say_nothing_change_nothing() -> None:
    alone = _verdict([(0.619, 3.4)])
    failed = BaselineResult("the base in INT8", "int8", "int8", Failure(FailureKind.ERROR, "no"))
    slower = _row("uniform 0.1", 0.63, 5.5, "uniform")
    assert _verdict([(0.619, 3.4)], failed, slower) == alone
    assert _verdict([], SMALLER) == "No trial has been measured yet."


def test_a_search_that_did_not_beat_the_base_still_names_the_row() -> None:
    said = _verdict([(0.6, 5.2)], _row("the base at 480 px", 0.615, 3.4))
    assert said == (
        "Not worth it so far: no trial has less latency than the base at an accuracy near it. "
        "But the base at 480 px has 0.615 at 3.4 ms, and no trial has so little latency."
    )


def test_an_error_of_which_less_is_better_is_compared_the_right_way_round() -> None:
    register(Objective("mae_of_rivals", "px", "min", "MAE"))
    objectives = objectives_named(["mae_of_rivals", "latency_ms"])

    def figures(error: float, latency: float) -> dict[str, Estimate]:
        return {"mae_of_rivals": Estimate.exact(error), "latency_ms": Estimate.exact(latency)}

    ranked = rank([Trial(0, TrialState.COMPLETE, Candidate({}), Measurement(figures(4.05, 1.0)))], [], objectives)
    base = Measurement(figures(4.0, 2.0))
    worse = BaselineResult("uniform 0.3", "uniform", "u", Measurement(figures(6.0, 1.0)))
    better = BaselineResult("small.pt", "sibling", "s", Measurement(figures(3.9, 1.0)))
    assert compared_verdict(ranked, [worse], base, objectives, 1).endswith(
        "At 1 ms the search keeps 4.05 px; uniform 0.3 has 6 px at that latency."
    )
    assert compared_verdict(ranked, [better], base, objectives, 1).startswith("Not worth it: small.pt has 3.9 px")


def test_a_base_without_accuracy_is_no_measure_of_worth() -> None:
    """Every row has as much as it: nothing can be said for or against pruning."""
    base = Measurement(_figures(0.0, 5.0, 0.0))
    trial = Trial(0, TrialState.COMPLETE, Candidate({}), Measurement(_figures(0.0, 2.0, 0.0)))
    rows = [_row("the base at 480 px", 0.0, 3.4, error=0.0)]
    said = compared_verdict(rank([trial], [], OBJECTIVES), rows, base, OBJECTIVES, 1)
    assert said.startswith("No verdict") and "orth it" not in said and "480" not in said


def _resampled(accuracy: float, latency: float, noise: float, seed: int, **more: Any) -> Measurement:
    """Resamples of one set of images: what they have in common is ten times what is a model's own."""
    common = 0.02 * np.random.default_rng(0).standard_normal(100)
    own = noise * np.random.default_rng(seed).standard_normal(100)
    return Measurement(
        _figures(accuracy, latency, 0.03), replicates={"map50_95": tuple((accuracy + common + own).tolist())}, **more
    )


def _paired(
    pruned: float, sibling: float, *, kind: str = "base", latency: float = 3.4, noise: float = 0.002, seeds: int = 1
) -> str:
    """The verdict on one trial of `s`, of 3.4 ms, beside the unpruned `n`."""
    trial = Trial(7, TrialState.COMPLETE, Candidate({}), _resampled(pruned, 3.4, noise, 1, seeds=seeds))
    row = BaselineResult("unpruned n", kind, "base-2", _resampled(sibling, latency, noise, 2))
    base = Measurement(_figures(0.625, 5.0))
    return compared_verdict(rank([trial], [], OBJECTIVES), [row], base, OBJECTIVES, 1, ("s", "n"))


def test_a_difference_is_told_from_the_images_that_both_saw() -> None:
    """Their own intervals overlap by far; the difference is ten times better known than either."""
    said = _paired(0.619, 0.610)
    assert said.startswith("Worth it: trial 7 (pruned s) has 32 % less latency than unpruned s (3.4 ms")
    assert re.search(
        r"At 3\.4 ms trial 7 \(pruned s\) beats unpruned n by 0\.9 \(0\.[3-6] to 1\.[2-5]\) points of mAP50-95\.$", said
    )
    slower = _paired(0.619, 0.610, latency=3.9)
    assert "beats unpruned n, which is at 3.9 ms, by 0.9 (" in slower


def test_what_beats_pruning_is_said_as_clearly() -> None:
    said = _paired(0.616, 0.625)
    assert re.search(
        r"^Not worth it: unpruned n beats trial 7 \(pruned s\), the best within that latency, by 0\.9 \(0\.[3-6] to ",
        said,
    )


def test_a_model_that_cannot_be_told_from_a_row_is_not_called_worth_it() -> None:
    said = _paired(0.619, 0.6185)
    assert said.startswith("Not shown to be worth it: unpruned n does as well at 3.4 ms, without pruning: trial 7")
    assert re.search(r"has 0\.[01] \(-0\.\d to 0\.\d\) points of mAP50-95 between them, which is within", said)
    assert "Worth it: " not in said
    assert _paired(0.619, 0.6185, kind="uniform").startswith("Worth it: "), "that was pruned, too"
    assert "cannot be told apart" in _paired(0.619, 0.6185, kind="uniform")


def test_several_trainings_have_their_error_besides() -> None:
    """The interval of the mean over seeds, 3 points here, is added to that of the images."""
    assert _paired(0.619, 0.610, seeds=3).startswith("Not shown to be worth it: ")


def test_the_least_effort_comes_first_and_the_most_accuracy_after_it() -> None:
    rows = [
        _row("uniform 0.3", 0.624, 3.2, "uniform"),
        _row("the base in INT8", 0.623, 3.1, "int8"),
        _row("the base at 480 px", 0.62, 3.0),
    ]
    said = _verdict([(0.619, 3.4)], *rows)
    assert said.startswith("Not worth it: the base at 480 px has 0.620 at 3 ms, and no trial has so little latency.")
    assert said.endswith("uniform 0.3 has more still: 0.624 at 3.2 ms.")
    assert "INT8" not in said
