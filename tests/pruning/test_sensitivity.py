"""Sensitivity: zero without pruning, rising with the ratio, blind to parts that do nothing, and monotone curves."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruning import sensitivity
from pruning.sensitivity import Curve, SensitivityProbe, divergence
from tests import shelf
from tests.pruning import zoo

BATCHES = [zoo.picture(batch=4, seed=1), zoo.picture(batch=4, seed=2)]

points = st.lists(st.tuples(st.floats(0.01, 0.95), st.floats(0, 5)), min_size=1, max_size=5, unique_by=lambda p: p[0])


@given(points, st.floats(0, 0.99), st.floats(0, 0.99))
def test_removing_more_never_costs_less(measured: list[tuple[float, float]], a: float, b: float) -> None:
    curve = Curve.through(measured)
    low, high = sorted((a, b))
    assert 0 <= curve.at(low) <= curve.at(high) + 1e-9


def test_a_curve_goes_through_its_points_and_on() -> None:
    curve = Curve.through([(0.8, 1.0), (0.4, 0.2)])
    assert curve.at(0.0) == 0 and curve.at(0.4) == pytest.approx(0.2)
    assert curve.at(0.6) == pytest.approx(0.6)
    assert curve.at(0.96) == pytest.approx(1.2)


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo26n.yaml", "yolov8n-seg.yaml", "yolov8n-cls.yaml"])
def test_harder_pruning_moves_the_outputs_more(name: str) -> None:
    model, graph = zoo.build(name), zoo.traced(name)
    stages = graph.stages()
    probe = SensitivityProbe(model, graph, BATCHES, graph.score(model))
    for stage in list(stages)[1:3]:
        curve = probe.curve(stages[stage], (0.25, 0.75))
        assert curve.ratios == (0.0, 0.25, 0.75)
        assert 0 < curve.divergences[1] <= curve.divergences[2]


@pytest.mark.parametrize(
    "name", ["yolov8n.yaml", "yolo26n.yaml", "yolov8n-cls.yaml", pytest.param("rtdetr-l.yaml", marks=pytest.mark.slow)]
)
def test_a_plan_is_run_from_the_first_layer_that_it_changes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever is pruned, the divergence is that of a whole run, and the layers before do not run again."""
    model, graph = zoo.build(name), zoo.traced(name)
    scores = graph.score(model)
    plans = [graph.plan({group.name: 0.5}, scores) for group in graph.free[:: max(1, len(graph.free) // 6)]]
    plans += [graph.plan(0.0, scores, removed=(block.path,)) for block in graph.blocks[:1]]
    plans += [graph.plan(0.0, scores, removed=(level.path,)) for level in graph.levels]
    quick = SensitivityProbe(model, graph, BATCHES, scores)
    monkeypatch.setattr(sensitivity, "MOST_RECORDED", 0)
    whole = SensitivityProbe(model, graph, BATCHES, scores)
    assert [quick.divergence_of(plan) for plan in plans] == [whole.divergence_of(plan) for plan in plans]
    assert quick.divergence_of(graph.plan(0.0, scores)) == 0.0
    last = graph.plan({graph.free[-1].name: 0.5}, scores)
    ran: list[int] = []
    real = nn.Conv2d.forward
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, x: ran.append(1) or real(self, x))
    costs = []
    for probe in (quick, whole):
        ran.clear()
        probe.divergence_of(last)
        costs.append(len(ran))
    assert costs[0] < costs[1] / 2


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo26n.yaml"])
def test_a_level_costs_what_it_says_with_confidence(name: str) -> None:
    """One that is silent costs nothing; one that alone speaks is all that there is."""
    model: Any = copy.deepcopy(zoo.build(name))
    head = model.model[-1]
    for lists in filter(None, (head.cv3, getattr(head, "one2one_cv3", None))):
        for last, bias in zip((branch[-1] for branch in lists), (-30.0, 3.0, -30.0), strict=True):
            torch.nn.init.constant_(last.bias, bias)
            torch.nn.init.zeros_(last.weight)
    graph = replace(zoo.traced(name), model=model, slice_templates=[])
    probe = SensitivityProbe(model, graph, BATCHES[:1], graph.score(model))
    assert probe.removal("P3") < 1e-6 and probe.removal("P5") < 1e-6
    assert probe.removal("P4") == pytest.approx(1.0, abs=1e-3)


def test_channels_that_nothing_reads_cost_nothing() -> None:
    """Half of a stage's channels are made useless; removing just those must not move the outputs."""
    model = zoo.seeded(zoo.build("yolov8n.yaml").__class__("yolov8n.yaml", verbose=False), seed=3)
    graph = shelf.trace(model, torch.zeros(1, 3, 64, 64))
    group = next(g for g in graph.free if g.name == "model.8.m.0.cv1")
    half = graph.plan({group.name: 0.5}).mask(model)
    masked = shelf.trace(half, torch.zeros(1, 3, 64, 64))
    curve = SensitivityProbe(half, masked, BATCHES, masked.score(half)).curve([group.name], (0.5, 0.75))
    useless, useful = curve.divergences[1:]
    assert useless < 1e-6 < useful


def test_divergence_is_zero_for_equal_and_one_for_silent_outputs() -> None:
    outputs = {"scores": torch.rand(1, 3, 10), "boxes": torch.rand(1, 4, 10), "proto": torch.rand(1, 2, 5, 5)}
    assert divergence(outputs, outputs) == 0
    assert divergence({name: torch.zeros_like(value) for name, value in outputs.items()}, outputs) == pytest.approx(1)


def test_boxes_count_where_the_base_is_confident() -> None:
    scores = torch.tensor([[[1.0, 0.0]]])
    expected = {"scores": scores, "boxes": torch.ones(1, 4, 2)}
    there, elsewhere = torch.ones(1, 4, 2), torch.ones(1, 4, 2)
    there[..., 0], elsewhere[..., 1] = 5.0, 5.0
    assert divergence({"scores": scores, "boxes": elsewhere}, expected) == 0
    assert divergence({"scores": scores, "boxes": there}, expected) > 1
