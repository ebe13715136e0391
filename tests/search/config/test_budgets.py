"""Budgets as people think: milliseconds, a share of the base, frames per second."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config.budgets import bounds_of, budget_limits

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
    ],
)
def test_what_is_no_budget_is_refused(said: object) -> None:
    with pytest.raises(ValueError, match=r"edge|nonsense|Cannot bound"):
        budget_limits("edge", said)


def test_a_share_of_what_was_not_measured_limits_nothing_yet() -> None:
    limits = budget_limits("edge", {"latency_ms": "60%", "params_m": 2})
    assert [str(bound) for bound in bounds_of(limits, {})] == ["params_m<=2"]


@given(st.floats(0.01, 10), st.floats(0.001, 1000))
def test_a_share_is_that_share(share: float, base: float) -> None:
    (bound,) = bounds_of(budget_limits("edge", {"latency_ms": f"{100 * share}%"}), {"latency_ms": base})
    assert bound.limit == pytest.approx(share * base, rel=1e-4)
