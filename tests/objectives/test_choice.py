from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives import BoundError, Estimate, NothingFits, ObjectiveError, objectives_named
from objectives.choice import Bound, knee, one_se, pick
from objectives.pareto import Row

OBJECTIVES = objectives_named(["map50_95", "latency_ms", "params_m"])


def row(accuracy: float, latency: float, params: float, error: float = 0.0) -> Row:
    return {
        "map50_95": Estimate(accuracy, accuracy - error, accuracy + error),
        "latency_ms": Estimate(latency, latency * 0.99, latency * 1.01),
        "params_m": Estimate.exact(params),
    }


ROWS = [row(0.50, 10.0, 3.0), row(0.48, 6.0, 2.0), row(0.46, 4.0, 1.5), row(0.30, 3.0, 1.0)]


@pytest.mark.parametrize(
    ("text", "name", "op", "limit"),
    [
        ("latency_ms<=5", "latency_ms", "<=", 5),
        (" map50_95 >= 0.4 ", "map50_95", ">=", 0.4),
        ("size_mb<=1e1", "size_mb", "<=", 10),
        ("params_m<=.5", "params_m", "<=", 0.5),
    ],
)
def test_bounds_are_read(text: str, name: str, op: str, limit: float) -> None:
    bound = Bound.parse(text)
    assert (bound.name, bound.op, bound.limit) == (name, op, limit)
    assert Bound.parse(str(bound)) == bound


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latency_ms<=5ms", r"without a unit; latency_ms is in ms\. For example latency_ms<=5"),
        ("map50_95>=40%", r"For example map50_95>=0\.4"),
        ("map50_95>=40", r"fraction from 0 to 1.*map50_95>=0\.4"),
        ("latency_ms<5", r"expected <= or >=, found <\. Write latency_ms<=5"),
        ("latency_ms=5", r"Write latency_ms<=5"),
        ("latency_ms>=5", r"of latency_ms less is better\. Write latency_ms<=5"),
        ("map50_95<=0.5", r"more is better"),
        ("latency<=5", r"Did you mean latency_ms"),
        ("latency_ms<=", r"expected a number"),
        ("latency_ms<=fast", r"expected a number after the sign, found 'fast'"),
        ("latency_ms<=-1", r"at least 0"),
        ("five", r"Expected name<=number"),
        ("", r"Expected name<=number"),
        ("latency_ms<=nan", r"expected a number"),
    ],
)
def test_unreadable_bounds_say_how_to_write_them(text: str, said: str) -> None:
    with pytest.raises(BoundError, match=said):
        Bound.parse(text)


def test_budget_takes_the_better_side() -> None:
    assert str(Bound.budget("latency_ms", 5)) == "latency_ms<=5"
    assert str(Bound.budget("map50_95", 0.4)) == "map50_95>=0.4"
    with pytest.raises(BoundError, match="finite"):
        Bound.budget("latency_ms", float("inf"))


def test_pick_is_the_most_accurate_within_the_budget_and_says_why() -> None:
    choice = pick(ROWS, [Bound.parse("latency_ms<=6.5")], OBJECTIVES)
    assert choice.index == 1
    assert choice.sentence == (
        "row 1 has the highest mAP50-95, 0.480, of the 3 among 4 models that are within latency_ms<=6.5 (it has 6 ms)."
    )


def test_pick_without_budget_and_with_labels() -> None:
    choice = pick(ROWS, [], OBJECTIVES, labels=["base", "trial 1", "trial 2", "trial 3"])
    assert choice.index == 0 and choice.sentence == "base has the highest mAP50-95, 0.500, of 4 models."


def test_pick_of_the_only_one_that_fits_says_so() -> None:
    assert pick(ROWS, [Bound.parse("latency_ms<=3.5")], OBJECTIVES).sentence == (
        "row 3 alone of 4 models is within latency_ms<=3.5 (it has 3 ms): mAP50-95 0.300."
    )


def test_pick_breaks_ties_by_latency_then_parameters() -> None:
    tied = [row(0.5, 6, 2.0), row(0.5, 5, 3.0), row(0.5, 5, 2.5)]
    assert pick(tied, [], OBJECTIVES).index == 2


def test_pick_says_when_the_interval_crosses_the_limit() -> None:
    choice = pick(ROWS, [Bound.parse("latency_ms<=6.02")], OBJECTIVES)
    assert choice.index == 1 and "95 % interval of latency_ms reaches beyond the limit" in choice.sentence


def test_pick_without_an_accuracy_takes_the_first_objective() -> None:
    assert pick(ROWS, [], objectives_named(["params_m"])).index == 3


def test_nothing_fits_carries_the_closest_and_what_reaches_it() -> None:
    bounds = [Bound.parse("latency_ms<=2.9"), Bound.parse("map50_95>=0.2")]
    with pytest.raises(NothingFits) as caught:
        pick(ROWS, bounds, OBJECTIVES)
    assert caught.value.closest == 3
    assert caught.value.reach == {"latency_ms": 3.0}
    assert "row 3: 3 ms against latency_ms<=2.9, 3.4 % off. It would fit latency_ms<=3" in caught.value.sentence


@given(st.floats(0.01, 900), st.floats(0.01, 0.99), st.floats(0.001, 0.999), st.floats(0.001, 0.999))
def test_what_is_said_to_reach_the_closest_does(latency: float, accuracy: float, cut: float, demand: float) -> None:
    rows = [row(accuracy, latency, 1.0)]
    bounds = [
        Bound.budget("latency_ms", latency * cut),
        Bound.budget("map50_95", min(1.0, accuracy + demand)),
    ]
    with pytest.raises(NothingFits) as caught:
        pick(rows, bounds, OBJECTIVES)
    wider = [Bound.budget(b.name, caught.value.reach.get(b.name, b.limit)) for b in bounds]
    assert pick(rows, wider, OBJECTIVES).index == 0


def test_no_rows_and_missing_figures_are_named() -> None:
    with pytest.raises(ObjectiveError, match="nothing to choose from"):
        pick([], [], OBJECTIVES)
    with pytest.raises(ObjectiveError, match="row 0 has no figure for size_mb"):
        pick(ROWS, [Bound.parse("size_mb<=5")], OBJECTIVES)
    with pytest.raises(ObjectiveError, match="one label per row"):
        pick(ROWS, [], OBJECTIVES, labels=["a"])


def test_knee_of_a_bent_front() -> None:
    choice = knee(ROWS, OBJECTIVES)
    assert choice.index == 2
    assert "gives up 0.040 for 60 % less latency" in choice.sentence


def test_knee_ignores_dominated_rows_and_order() -> None:
    rows = [row(0.20, 9.0, 1.0), *reversed(ROWS)]
    assert rows[knee(rows, OBJECTIVES).index] == ROWS[2]


@pytest.mark.parametrize(
    "rows", [ROWS[:1], ROWS[:2], [row(0.3 + 0.1 * k, 3.0 + k, 1.0) for k in range(3)], [ROWS[0]] * 4]
)
def test_no_knee_gives_the_most_accurate_and_says_so(rows: list[Row]) -> None:
    choice = knee(rows, OBJECTIVES)
    assert rows[choice.index]["map50_95"].value == max(r["map50_95"].value for r in rows)
    assert "has no knee" in choice.sentence


def test_knee_needs_an_accuracy_and_a_cost() -> None:
    with pytest.raises(ObjectiveError, match="between an accuracy and a cost"):
        knee(ROWS, objectives_named(["latency_ms"]))


def test_one_standard_error_takes_the_smallest_that_is_as_good() -> None:
    rows = [row(0.50, 10, 3, error=0.0196 * 2), row(0.485, 6, 2, 0.04), row(0.47, 4, 1.5, 0.04)]
    choice = one_se(rows, OBJECTIVES)
    assert choice.index == 1
    assert "within one standard error (0.020) of the best, row 0: 0.485 against 0.500" in choice.sentence


def test_one_standard_error_of_exact_figures_is_the_best() -> None:
    choice = one_se(ROWS, OBJECTIVES)
    assert choice.index == 0
    assert choice.sentence == (
        "row 0 has the highest mAP50-95, 0.500, "
        "and no smaller one of 4 models is within one standard error (0.000) of it."
    )
