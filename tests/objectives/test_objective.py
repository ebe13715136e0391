from __future__ import annotations

import math
from dataclasses import replace

import pytest

from objectives import OBJECTIVES, Estimate, ObjectiveError, objectives_named
from objectives.objective import (
    _KNOWN,
    DEPLOYED,
    MAIN_FIGURES,
    NAMED_ONLY,
    TASK_FIGURES,
    Objective,
    figure,
    objective_named,
    register,
)

SHIPPED = dict(OBJECTIVES)
"""As it is before any test has registered figures of its own."""


def test_exact_figure_has_no_width() -> None:
    estimate = Estimate.exact(3)
    assert (estimate.value, estimate.low, estimate.high) == (3.0, 3.0, 3.0)
    assert estimate.is_exact and estimate.standard_error == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "x"])
@pytest.mark.parametrize("place", ["value", "low", "high"])
def test_not_a_finite_number_is_refused_by_name(bad: object, place: str) -> None:
    fields: dict[str, object] = {"value": 1.0, "low": 0.0, "high": 2.0, place: bad}
    with pytest.raises(ValueError, match=f"Estimate: {place} must be"):
        Estimate(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("value", "low", "high"), [(1, 2, 3), (4, 2, 3), (2.5, 3, 2)])
def test_interval_must_hold_the_value(value: float, low: float, high: float) -> None:
    with pytest.raises(ValueError, match="low <= value <= high"):
        Estimate(value, low, high)


def test_normal_interval_is_cut_off_at_the_range_and_keeps_its_standard_error() -> None:
    estimate = Estimate.normal(0.99, 0.02, within=(0, 1))
    assert estimate.high == 1.0
    assert estimate.low == pytest.approx(0.99 - 1.96 * 0.02, abs=1e-4)
    assert estimate.standard_error == pytest.approx(0.02)


def test_a_value_outside_the_range_stays_inside_its_interval() -> None:
    assert Estimate.normal(1.0000001, 0.01, within=(0, 1)).high == 1.0000001


def test_overlap_is_symmetric_and_includes_touching() -> None:
    a, b, c = Estimate(1, 0, 2), Estimate(3, 2, 4), Estimate(5, 4.5, 6)
    assert a.overlaps(b) and b.overlaps(a) and not b.overlaps(c) and not c.overlaps(b)


def test_scaled_and_to_dict() -> None:
    assert Estimate(2, 1, 3).scaled(10).to_dict() == {"value": 20.0, "low": 10.0, "high": 30.0}
    with pytest.raises(ValueError, match="above 0"):
        Estimate.exact(1).scaled(-1)


def test_table_names_itself_and_knows_directions() -> None:
    assert all(name == objective.name for name, objective in SHIPPED.items())
    less_is_better = {n for n, o in SHIPPED.items() if o.direction == "min"}
    costs = {"latency_ms", "params_m", "macs_g", "size_mb", "weights_mb", *DEPLOYED}
    assert less_is_better == {*costs, "per_class_drop"}
    assert {n for n, o in SHIPPED.items() if o.is_cost} == less_is_better - {"per_class_drop"}
    assert {name for figures in TASK_FIGURES.values() for name in figures} <= SHIPPED.keys() - less_is_better
    assert all(figure in TASK_FIGURES[task] for task, figure in MAIN_FIGURES.items())


def test_unknown_objective_names_the_near_miss() -> None:
    with pytest.raises(ObjectiveError, match=r"'latency'\. Did you mean latency_ms\?"):
        objective_named("latency")
    with pytest.raises(ObjectiveError, match="Expected one of: map50_95"):
        objective_named("zzz")


@pytest.mark.parametrize(("names", "said"), [([], "No objective"), (["map50", "map50"], "more than once: map50")])
def test_a_list_of_objectives_is_not_empty_and_has_no_repeats(names: list[str], said: str) -> None:
    with pytest.raises(ObjectiveError, match=said):
        objectives_named(names)


def test_missing_figure_names_row_and_what_it_has() -> None:
    with pytest.raises(ObjectiveError, match="row 3 has no figure for map50; it has: recall"):
        figure({"recall": Estimate.exact(1)}, "map50", "row 3")
    with pytest.raises(ObjectiveError, match=r"row 3: map50 must be an Estimate, found float: 0\.5"):
        figure({"map50": 0.5}, "map50", "row 3")  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("map50", 0.4123, "0.412"), ("latency_ms", 5.128, "5.13 ms"), ("params_m", 3.01, "3.01 M")],
)
def test_figures_as_text(name: str, value: float, text: str) -> None:
    assert OBJECTIVES[name].text(value) == text


def test_a_figure_of_ones_own_is_known_once_it_is_registered() -> None:
    own = Objective("own_error", "%", "min", "Own error")
    with pytest.raises(ObjectiveError, match="Unknown objective 'own_error'"):
        objectives_named(["own_error"])
    register(own)
    register(own)
    assert objectives_named(["own_error"]) == (own,) and not own.is_cost
    with pytest.raises(ObjectiveError, match="is known as"):
        register(replace(own, direction="max"))
    with pytest.raises(ObjectiveError, match="measured here already"):
        register(replace(own, name="recall"))


@pytest.mark.parametrize("name", NAMED_ONLY)
def test_a_task_of_ones_own_keeps_a_figure_that_was_not_known_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_KNOWN, name, OBJECTIVES[name])  # and back
    own = Objective(name, "%", "max", "Own")
    with pytest.raises(ObjectiveError, match="measured here already"):
        register(own)
    for _ in range(2):
        register(own, instead_of=NAMED_ONLY)
    assert OBJECTIVES[name] == own and {"memory_mb", "energy_mj", "e2e_ms", "weights_mb"} == set(NAMED_ONLY)
    with pytest.raises(ObjectiveError, match="is known as"):
        register(replace(own, unit="kB"), instead_of=NAMED_ONLY)
    with pytest.raises(ObjectiveError, match="measured here already"):
        register(replace(own, name="size_mb"), instead_of=NAMED_ONLY)
