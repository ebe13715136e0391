"""Budgets as people think: milliseconds, a share of the base, frames per second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config.budgets import bounds_of, budget_limits, without_replaced

BASE = {"latency_ms": 4.0, "params_m": 3.0, "map50_95": 0.6}


@pytest.mark.parametrize(
    ("said", "bounds"),
    [
        ({"latency_ms": 5}, ["latency_ms<=5"]),
        ({"latency_ms": "60%"}, ["latency_ms<=2.4"]),
        ({"latency_ms": "<= 60 %"}, ["latency_ms<=2.4"]),
        ({"fps": 50}, ["latency_ms<=20"]),
        ({"fps": ">=50", "params_m": "50%"}, ["latency_ms<=20", "params_m<=1.5"]),
        ({"map50_95": "95%"}, ["map50_95>=0.57"]),
    ],
)
def test_a_budget_is_read_as_it_is_meant(said: dict[str, object], bounds: list[str]) -> None:
    assert [str(bound) for bound in bounds_of(budget_limits("edge", said), BASE)] == bounds


@pytest.mark.parametrize(
    "said",
    [
        {},
        5,
        {"latency_ms": "fast"},
        {"latency_ms": "0%"},
        {"latency_ms": "-5%"},
        {"latency_ms": "nan%"},
        {"latency_ms": float("inf")},
        {"latency_ms": True},
        {"fps": 0},
        {"fps": "60%%"},
        {"nonsense": 5},
        {"nonsense": "60%"},
        {"latency_ms": ">=5"},
        {"latency_ms": ">= 60%"},
        {"map50_95": "<=0.3"},
        {"map50_95": "<=95%"},
        {"fps": "<=30"},
        {"latency_ms": 10, "fps": 30},
        {"fps": 30, "latency_ms": "60%"},
    ],
)
def test_what_is_no_budget_is_refused(said: object) -> None:
    with pytest.raises(ValueError, match=r"edge|nonsense|Cannot bound"):
        budget_limits("edge", said)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"latency_ms": ">=5"}, "of latency_ms less is better; expected '<=5'"),
        ({"map50_95": "<= 95%"}, "of map50_95 more is better; expected '>=95%'"),
        ({"fps": "<=30"}, "of fps more is better; expected '>=30'"),
        ({"fps": 30, "latency_ms": 10}, "limit the same figure; expected one of them"),
    ],
)
def test_a_limit_that_would_mean_something_else_is_refused_with_what_is_meant(
    said: dict[str, object], expected: str
) -> None:
    with pytest.raises(ValueError, match=f"^edge: .*{expected}$"):
        budget_limits("edge", said)


def test_frames_per_second_of_a_batch_are_milliseconds_of_all_of_it() -> None:
    """As latencies are, which are those of one inference."""
    (bound,) = bounds_of(budget_limits("live", {"fps": 40}, batch=8), {})
    assert str(bound) == "latency_ms<=200"


def test_an_override_of_one_unit_of_time_takes_the_place_of_the_other() -> None:
    data = {"imgsz": 64, "budgets": {"edge": {"latency_ms": 5, "params_m": 2}, "live": {"fps": 30}, "odd": 3}}
    assert without_replaced(data, {"imgsz": 32, "budgets.edge.params_m": 1}) == data
    replaced = without_replaced(data, {"budgets.edge.fps": 30, "budgets.live.latency_ms": "60%"})
    assert replaced == {"imgsz": 64, "budgets": {"edge": {"params_m": 2}, "live": {}, "odd": 3}}
    assert without_replaced({"budgets": None}, {"budgets.edge.fps": 30}) == {"budgets": None}


def test_a_share_of_what_was_not_measured_limits_nothing_yet() -> None:
    limits = budget_limits("edge", {"latency_ms": "60%", "params_m": 2})
    assert [str(bound) for bound in bounds_of(limits, {})] == ["params_m<=2"]


@given(st.floats(0.01, 10), st.floats(0.001, 1000))
def test_a_share_is_that_share(share: float, base: float) -> None:
    (bound,) = bounds_of(budget_limits("edge", {"latency_ms": f"{100 * share}%"}), {"latency_ms": base})
    assert bound.limit == pytest.approx(share * base, rel=1e-4)
