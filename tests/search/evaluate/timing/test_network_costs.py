"""Costs of a network in the units of its base."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.latency.protocol import Latency, compare
from objectives.latency.quality_flags import DISTURBED
from objectives.objective import Estimate
from search.evaluate.timing.network_costs import Costs, Further
from tests.objectives.fakes import FakeRunner, SimulatedClock

TIMED = Latency(Estimate(0.5, 0.45, 0.55), 4.0, 4.4, 8.0, 8.3, 12, 3.25, ("drift",))


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.booleans())
def test_a_cost_comes_back_whole(value: float, reference: float, relative: bool) -> None:
    cost = Further(Estimate(value, 0.9 * value, 1.1 * value), relative, reference, {"flags": ["drift"], "p50": 1.5})
    assert Further.from_json(json.loads(json.dumps(cost.to_json()))) == cost


def test_relative_costs_are_ratios_to_the_base_and_others_are_themselves() -> None:
    further = {"e2e_ms": Further.interleaved(TIMED, boxes=3), "memory_mb": Further(Estimate(40.0, 39.0, 41.0))}
    costs = Costs(TIMED, further)
    found = costs.figures(10.0, {"e2e_ms": 20.0, "memory_mb": 99.0})
    assert {name: one.value for name, one in found.items()} == {"latency_ms": 5.0, "e2e_ms": 10.0, "memory_mb": 40.0}
    assert found["e2e_ms"].low == pytest.approx(9.0)
    base = costs.of_base()
    assert (base["latency_ms"], base["e2e_ms"]) == (Estimate.exact(8.0), Estimate.exact(8.0))
    assert base["memory_mb"] == Estimate(40.0, 39.0, 41.0), "measured, with an error"
    assert costs.flags == (("e2e_ms", "drift"),) and costs.facts["further"]["e2e_ms"]["facts"]["boxes"] == 3


def test_pictures_that_differ_are_no_disturbed_machine() -> None:
    """One measurement of different pictures, as it is made: quiet, but for what is flagged of the processes."""
    clock, flags = SimulatedClock(), ("drift", "throttling", "noisy", "foreign_load", "few_rounds")
    few_boxes, many_boxes = ([FakeRunner(clock, ms / 1e3, noise=0.001) for ms in (4, 4, 4, 9, 9, 9)] for _ in range(2))
    timed = compare(few_boxes, many_boxes, clock=clock, whole_turns=True)
    assert DISTURBED & set(timed.flags), "else there is nothing to drop"
    assert not DISTURBED & set(Further.end_to_end(timed).facts["flags"])
    assert Further.end_to_end(replace(timed, flags=flags)).facts["flags"] == ["foreign_load", "few_rounds"]
    assert Further.interleaved(replace(timed, flags=flags)).facts["flags"] == list(flags), "of energy all are kept"
