"""Allocation: within every budget, never worse than trying everything, monotone, and true to what a plan realises."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectives.latency.model import LatencyModel
from pruning import ChannelGraph
from pruning.channels import feature_names, tiled, work_of
from pruning.cost_table import cost_table
from pruning.sensitivity import Curve
from search.config.sections import SpaceSpec
from search.propose.allocation import Allocator, PlainWalk, Removal, Vector, Walk, divergence_of, width_options_of
from search.propose.costs import (
    LatencyCorrection,
    LimitedCost,
    Limits,
    WidthCost,
    expected_shares,
    layer_rates,
)
from search.propose.width_options import allocator_of
from search.space import Block, Dimension, Space
from tests.pruning import zoo

WIDTHS = (16, 12, 8, 4)


def product_cost(widths: np.ndarray, removed: tuple[str, ...]) -> np.ndarray:
    """A chain a -> b -> c: each layer's work is c_in * c_out, so no dimension has a cost of its own."""
    a, b, c = (widths / 16).T
    return (0.1 + 0.3 * a + 0.3 * a * b + (0.0 if "block" in removed else 0.3) * b * c) / 1.0


def small(prices: list[list[float]], removal: float | None = None) -> Allocator:
    dimensions = tuple(Dimension(name, (name,), 0.0, 0.8) for name in "abc")
    space = Space(dimensions, (64,), blocks=(Block("block", ()),) if removal is not None else ())
    ratios = [1 - width / 16 for width in WIDTHS]
    dims = tuple(
        width_options_of(
            name,
            [n],
            [[width] for width in WIDTHS],
            ratios,
            Curve.through(list(zip(ratios[1:], divergence_of(np.cumsum(row)).tolist(), strict=True))),
            name,
        )
        for n, (name, row) in enumerate(zip("abc", prices, strict=True))
    )
    removals = (Removal("block", removal, "c", frozenset()),) if removal is not None else ()
    return Allocator(space, dims, removals, np.array([16, 16, 16]), product_cost)


def cheapest(allocator: Allocator, budget: float) -> float:
    """The true optimum, by trying everything."""
    removed = [(), ("block",)] if allocator.removals else [()]
    vectors = (Vector(e, r) for e in itertools.product(range(4), repeat=3) for r in removed)
    return min(allocator.price(v) for v in vectors if allocator.cost(v) <= budget)


rows = st.lists(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), min_size=3, max_size=3)


@settings(max_examples=60, deadline=None)
@given(rows, st.floats(0.25, 1.0), st.one_of(st.none(), st.floats(0.0, 1.0)))
def test_a_budget_is_kept_and_nearly_optimal(prices: list[list[float]], budget: float, removal: float | None) -> None:
    """The Lagrangian finds the convex hull of the trade-off; what lies between is filled by single steps."""
    allocator = small(prices, removal)
    vector = allocator.vector_within(budget, {})
    assert allocator.cost(vector) <= budget + 1e-9
    best = cheapest(allocator, budget)
    assert allocator.price(vector) <= best + 0.35 * (sum(map(sum, prices)) + (removal or 0)) + 1e-9


@settings(max_examples=30, deadline=None)
@given(rows)
def test_the_optimum_is_found_on_the_path(prices: list[list[float]]) -> None:
    """Every rung that the path visits cannot be improved by changing one dimension at its own cost."""
    allocator = small(prices)
    for vector in allocator.path({})[::8]:
        assert (
            allocator.price(vector) <= cheapest(allocator, allocator.cost(vector)) + 0.2 * sum(map(sum, prices)) + 1e-9
        )


def test_what_costs_nothing_goes_first_and_what_hurts_stays() -> None:
    allocator = small([[1.0, 1.0, 1.0], [0.01, 0.01, 0.01], [1.0, 1.0, 1.0]])
    a, b, c = allocator.vector_within(0.6, {}).entries
    assert b == 3 and a == 0 and c == 0
    turned = allocator.vector_within(0.6, {"b": 1000.0, "a": 0.001})
    assert turned.entries[0] > 0 and turned.entries[1] == 0


def test_a_larger_budget_never_pays_more() -> None:
    allocator = small([[0.1, 0.3, 0.9], [0.2, 0.1, 0.4], [0.05, 0.05, 0.6]], 0.3)
    prices = [allocator.price(allocator.vector_within(b, {})) for b in np.linspace(0.2, 1.0, 20)]
    assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(prices))


def test_candidates_and_vectors_are_inverse_on_a_real_network() -> None:
    model, graph = zoo.build("yolov8n.yaml"), zoo.traced("yolov8n.yaml")
    spec = SpaceSpec(ratio=(0.0, 0.8), groups="each", depth=True)
    space = Space.from_graph(graph, spec, (64,), levels=graph.levels[-1:])
    flat = {d.name: Curve.through([(0.4, 0.1), (0.8, 0.5)]) for d in space.dimensions}
    curves = flat | {block.parameter: Curve.through([(1.0, 0.2)]) for block in space.blocks}
    allocator = allocator_of(graph, space, curves, 8)
    scores = graph.score(model)
    for budget in (0.8, 0.5, 0.3):
        candidate = allocator.within(budget)
        vector = allocator.vector(candidate)
        assert allocator.candidate(vector) == candidate
        plan = graph.plan(space.group_ratios(candidate), scores, round_to=8, removed=candidate.removed)
        inside = {name for block in space.blocks if block.path in candidate.removed for name in block.groups}
        said = dict(zip(graph.table.names, allocator.widths(vector).tolist(), strict=True))
        assert {n: w for n, w in said.items() if n not in inside} == {
            n: plan.widths[n] for n in said if n not in inside
        }
        assert allocator.cost(vector) <= budget
        share = 0.95 * plan.cost().macs / graph.cost().macs + 0.05 * plan.cost().params / graph.cost().params
        assert allocator.cost(vector) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize(
    "shares", [{"params": 0.6}, {"macs": 0.7}, {"params": 0.6, "macs": 0.7}, {"params": 0.6, "macs": 0.7, "cost": 0.75}]
)
def test_limits_of_parameters_and_macs_are_met_and_used_up(shares: dict[str, float]) -> None:
    """Exactly, and with less paid than where allocation aims at a cost that meets them by chance."""
    graph = zoo.traced("yolov8n.yaml")
    space = Space.from_graph(graph, SpaceSpec(ratio=(0.0, 0.9), groups="each", depth=True), (64,))
    random = np.random.default_rng(0)
    curves = {
        d.name: Curve.through([(0.4, a), (0.8, 5 * a)]) for d in space.dimensions if (a := random.uniform(0, 0.1))
    }
    curves |= {block.parameter: Curve.through([(1.0, 0.2)]) for block in space.blocks}
    allocator = allocator_of(graph, space, curves, 8, shares_model(graph, 16))
    limited = replace(allocator, cost_of=Limits(graph, **shares).over(allocator.cost_of), _paths={})
    vector = limited.vector_within(1.0, {})

    def met(one: Vector) -> dict[str, float]:
        cost = graph.costs_without(one.removed).of_widths(allocator.widths(one))
        found = {"params": cost.params / graph.cost().params, "macs": cost.macs / graph.cost().macs}
        return {name: (found | {"cost": allocator.cost(one)})[name] / limit for name, limit in shares.items()}

    assert 0.97 < max(met(vector).values()) <= 1.0
    blind = replace(allocator, cost_of=Unaware(Limits(graph, **shares).over(allocator.cost_of)), _paths={})
    assert allocator.price(vector) < allocator.price(blind.vector_within(1.0, {}))


class Unaware:
    """The limits, but a walk that sees the cost alone."""

    def __init__(self, limited: LimitedCost) -> None:
        self.limited = limited

    def __call__(self, widths: np.ndarray, removed: tuple[str, ...]) -> np.ndarray:
        return self.limited(widths, removed)

    def walk(self, widths: np.ndarray, removed: tuple[str, ...]) -> Walk:
        return self.limited.cost.walk(widths, removed)


@pytest.mark.parametrize("removed", [(), ("model.6.m.1",)])
def test_limits_are_the_exact_cost(removed: tuple[str, ...]) -> None:
    """Of any widths; in a variant, time and work are what the variant takes of them."""
    graph = zoo.traced("yolov8n.yaml")
    full, cost = graph.table.full_widths(), WidthCost(graph)
    widths = np.maximum(1, (full * np.random.default_rng(2).uniform(0.2, 1.0, (5, len(full)))).astype(int))
    params, macs = graph.costs_without(removed).of_many(widths)
    limits = Limits(graph, params=0.5, macs=0.25, cost=0.8)
    whole = graph.cost()
    for time, work in ((1.0, 1.0), (0.5, 0.25)):
        shares = [
            params / whole.params / 0.5,
            work * macs / whole.macs / 0.25,
            time * cost(widths, removed) / 0.8,
        ]
        assert limits.over(cost, time, work)(widths, removed) == pytest.approx(np.max(shares, axis=0))


def test_the_form_is_the_cost_of_the_base() -> None:
    graph = zoo.traced("yolo11n.yaml")
    assert WidthCost(graph)(graph.table.full_widths()[None], ())[0] == pytest.approx(1.0)


@pytest.mark.parametrize("tile", [1, 16])
def test_a_walk_costs_what_whole_vectors_cost(tile: int) -> None:
    """Choices for single dimensions, and after each change."""
    graph = zoo.traced("yolov8n.yaml")
    model, random = shares_model(graph, tile), np.random.default_rng(1)
    full, removed = graph.table.full_widths(), (graph.blocks[1].path,)
    cost = WidthCost(graph, model)
    fast, plain = cost.walk(full, removed), PlainWalk(cost, full, removed)
    for _ in range(30):
        columns = random.choice(len(full), 2, replace=False)
        choices = random.integers(1, full[columns] + 1, (6, 2))
        found, true = (walk.choices(columns, choices) for walk in (fast, plain))
        assert found - found[0] == pytest.approx(true - true[0], abs=1e-9)
        fast.take(columns, choices, 2)
        plain.take(columns, choices, 2)


def test_a_correction_is_what_was_measured_near_it_and_nothing_far_away() -> None:
    correction = LatencyCorrection.through(np.array([0.4, 0.41, 0.39]), np.array([0.5, 0.51, 0.49]))
    near, far, base = correction.factor(np.array([0.4, 0.1, 1.0])).tolist()
    assert near == pytest.approx(1.25, rel=0.03)
    assert far == pytest.approx(1.0, abs=0.01) and base == pytest.approx(1.0, abs=0.01)
    steep = LatencyCorrection.through(np.array([0.4, 0.5]), np.array([0.6, 0.35]))
    ratios = np.linspace(0.06, 1.05, 200)
    assert (np.diff(ratios * steep.factor(ratios)) >= -1e-9).all(), "what is predicted to be faster is not slower"


def shares_model(graph: ChannelGraph, tile: int) -> LatencyModel:
    """A latency model of whole tiles, fitted to twenty shapes that are exactly as expected."""
    full = graph.table.full_widths()
    widths = np.maximum(1, (full * np.random.default_rng(0).uniform(0.3, 1.0, (20, len(full)))).astype(int))
    whole, work = work_of(graph, full[None], tile=tile), work_of(graph, widths, tile=tile)
    shares = expected_shares(graph)
    ratios = 0.15 + 0.85 * (work / whole @ shares)
    return LatencyModel.fit(feature_names(graph), whole[0], work, ratios, shares, tile)


@pytest.mark.parametrize("tile", [1, 16])
def test_the_pages_latency_model_is_the_allocators(tile: int) -> None:
    """Milliseconds by layers, as the what-if adds them up, and the cost of allocation are the model's prediction."""
    graph = zoo.traced("yolov8n.yaml")
    latency, full = shares_model(graph, tile), graph.table.full_widths()
    widths = np.maximum(1, (full * np.random.default_rng(1).uniform(0.3, 1.0, (20, len(full)))).astype(int))
    work = work_of(graph, widths, tile=tile)
    params = graph.costs.of_many(widths)[0] / graph.cost().params
    assert WidthCost(graph, latency)(widths, ()) == pytest.approx(0.95 * latency.predict(work) + 0.05 * params)
    rates, table = layer_rates(graph, latency, 5.0), cost_table(graph)
    seen = tiled(widths, tile)[0]
    counts = [1.0] + [sum(w * seen[g] for g, w in column["of"]) for column in table["columns"][1:]]
    total = 5.0 * latency.coefficients[0]
    for name, rate in rates.items():
        out, into = (counts[column] for column in table["layers"].get(name, [0, 0]))
        total += rate["per_product"] * out * into + rate["per_output"] * out + rate["constant"]
    assert total == pytest.approx(5.0 * latency.predict(work[:1])[0], rel=1e-6)
