"""Plans: pure, monotone, hashable, the same after JSON, and strict about what they are asked."""

from __future__ import annotations

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pruning
from pruning import ChannelGraph, Plan, PlanError, Scores
from pruning.plan import realised_width
from tests.pruning import zoo


@cache
def traced() -> ChannelGraph:
    return zoo.traced("yolov8n.yaml")


@cache
def base() -> nn.Module:
    return zoo.build("yolov8n.yaml")


@cache
def scored() -> Scores:
    return traced().score(base(), "l2")


ratios = st.floats(0, 0.999)


@given(st.integers(1, 600), ratios, ratios, st.integers(1, 32), st.integers(1, 16))
def test_a_larger_ratio_never_keeps_more(n: int, a: float, b: float, step: int, minimum: int) -> None:
    low, high = sorted((a, b))
    minimum = min(n, minimum)
    assert realised_width(n, high, step, minimum) <= realised_width(n, low, step, minimum)


@given(st.integers(1, 600), ratios, st.integers(1, 32), st.integers(1, 16))
def test_a_width_is_a_multiple_or_everything_or_the_minimum(n: int, ratio: float, step: int, minimum: int) -> None:
    minimum = min(n, minimum)
    width = realised_width(n, ratio, step, minimum)
    assert minimum <= width <= n
    assert width % step == 0 or width in (n, minimum)
    assert width >= (1 - ratio) * n - 1e-6


@settings(max_examples=25, deadline=None)
@given(ratios, ratios, st.sampled_from([1, 4, 8]))
def test_channels_kept_at_a_larger_ratio_are_kept_at_a_smaller_one(a: float, b: float, round_to: int) -> None:
    low, high = sorted((a, b))
    more = dict(traced().plan(low, scored(), round_to).kept)
    fewer = dict(traced().plan(high, scored(), round_to).kept)
    assert all(set(fewer[name]) <= set(more[name]) for name in more)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 8]))
def test_json_both_ways(seed: int, round_to: int) -> None:
    plan = traced().plan(zoo.random_ratios(traced(), seed), scored(), round_to)
    again = Plan.from_json(plan.to_json())
    assert again == plan and hash(again) == hash(plan) and again.digest == plan.digest


def test_a_plan_from_json_rebuilds_the_model_bit_for_bit() -> None:
    plan = traced().plan(0.4, scored())
    first, second = plan.apply(base()), Plan.from_json(plan.to_json()).apply(base())
    for (name, a), (other, b) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert name == other and torch.equal(a, b)


def test_a_graph_pickled_without_its_model_makes_the_same_plan() -> None:
    graph = pickle.loads(pickle.dumps(traced()))
    assert graph.model is None
    assert graph.plan(0.4, scored()) == traced().plan(0.4, scored())
    with pytest.raises(pruning.TraceError, match="pass scores"):
        graph.plan(0.4)


def test_published_widths_of_ten_convolutions() -> None:
    """Ratio 0.15 on the first convolutions of yolov8n's C2f bottlenecks: 16 -> 14, 32 -> 28, 64 -> 55, 128 -> 109."""
    names = [group.name for group in traced().free if ".m." in group.name and group.name.endswith("cv1")]
    assert len(names) == 10
    plan = traced().plan(dict.fromkeys(names, 0.15))
    sizes = {group.name: group.size for group in traced().groups}
    assert {(sizes[name], plan.widths[name]) for name in names} == {(16, 14), (32, 28), (64, 55), (128, 109)}
    assert sum(sizes[name] for name in names) == 624 and sum(plan.widths[name] for name in names) == 536


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_a_ratio_outside_the_range_is_refused(ratio: float) -> None:
    with pytest.raises(PlanError, match="at least 0 and below 1"):
        traced().plan({"model.0": ratio})


def test_an_unknown_group_names_the_near_miss() -> None:
    with pytest.raises(PlanError, match=r"did you mean model\.4\.m\.0\.cv1"):
        traced().plan({"model.4.m.0.cv7": 0.5})


def test_a_frozen_group_says_why() -> None:
    frozen = next(group for group in traced().groups if group.frozen == "output of the model")
    with pytest.raises(PlanError, match="output of the model"):
        traced().plan({frozen.name: 0.5})


def test_two_ratios_for_one_tie_are_refused() -> None:
    tie = next(group.tie for group in traced().free if group.tie)
    first, second = [group.name for group in traced().free if group.tie == tie][:2]
    assert traced().plan({first: 0.5}) == traced().plan({second: 0.5})
    with pytest.raises(PlanError, match="tied"):
        traced().plan({first: 0.5, second: 0.3})


def test_a_layer_name_means_all_its_groups() -> None:
    widths = traced().plan({"model.2.cv1": 0.5}).widths
    halves = [width for name, width in widths.items() if name.startswith("model.2.cv1[")]
    assert halves == [8, 8]


def test_a_plan_for_another_model_is_refused() -> None:
    plan = traced().plan(0.3)
    with pytest.raises(PlanError, match="made for another model"):
        plan.apply(zoo.build("yolo11n.yaml"))


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"kept": 3}', '{"kept": {"a": [1]}, "fingerprint": "", "example_shape": []}']
)
def test_a_broken_plan_file_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="not a plan"):
        Plan.from_json(text)


def test_ties_keep_equal_shares() -> None:
    graph = zoo.traced("yolo11n.yaml")
    plan = graph.plan(zoo.random_ratios(graph, 3))
    sizes = {group.name: group.size for group in graph.groups}
    shares: dict[str, set[float]] = {}
    for group in graph.free:
        if group.tie:
            shares.setdefault(group.tie, set()).add(plan.widths[group.name] / sizes[group.name])
    assert shares and all(len(found) == 1 for found in shares.values())


def test_batch_cost_agrees_with_single_cost() -> None:
    plans = [traced().plan(zoo.random_ratios(traced(), seed), scored()) for seed in range(6)]
    widths = np.array([list(plan.widths.values()) for plan in plans])
    params, macs = traced().costs.of_many(widths)
    assert [(p.cost().params, p.cost().macs) for p in plans] == list(zip(params.tolist(), macs.tolist(), strict=True))
