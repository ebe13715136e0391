"""The verdict against the baselines: won, lost, within the error, faster than every trial."""

from __future__ import annotations

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
