"""At a height and a width: a plan applied equals the plan masked, and its cost is exact."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pruning.checkpoints.checkpoint import count_parameters
from tests import shelf
from tests.pruning import zoo

SHAPE = (64, 96)
MORE = ("yolov8n-seg.yaml", "yolo12n-obb.yaml", "yolov10n.yaml", "rtdetr-l.yaml")


@pytest.mark.parametrize("name", ["yolo11n.yaml", *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)])
def test_applied_equals_masked_and_cost_is_exact_at_two_sides(name: str) -> None:
    """Attention, whose work grows with the square of the places, among them; blocks and a level removed."""
    graph = shelf.trace(zoo.build(name), torch.zeros(1, 3, *SHAPE))
    model, x = copy.deepcopy(zoo.build(name)).double(), torch.rand(1, 3, *SHAPE, dtype=torch.float64)
    removed = (graph.blocks[0].path, *(level.path for level in graph.levels if level.path == "P5"))
    for seed in range(2):
        plan = graph.plan(zoo.random_ratios(graph, seed), importance="random", removed=removed if seed else ())
        small, twin = plan.apply(model), plan.mask(model)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            found = small(x)
        with torch.no_grad():
            expected = twin(x)
        assert zoo.worst_difference(found, expected) < 1e-9, plan.removed
        assert plan.cost().params == count_parameters(small)
        assert plan.cost().macs * 2 == counter.get_total_flops()
