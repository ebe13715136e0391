"""Blocks removed whole: exact against the silenced twin, exactly priced, alone and together with channels."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pruning import Plan, PlanError
from pruning.checkpoints.checkpoint import count_parameters
from tests.pruning import zoo

MODELS = ("yolov8n.yaml", "yolov5n.yaml", "yolov10b.yaml", "yolo11n.yaml", "yolo12n.yaml", "yolo26n.yaml")
PLAIN = ("torchvision:resnet18", "torchvision:mobilenet_v3_small", "torchvision:mobilenet_v2")


@pytest.mark.parametrize("name", (*MODELS, *PLAIN))
@pytest.mark.parametrize("ratio", [0.0, 0.4])
def test_removed_equals_silenced_and_cost_is_exact(name: str, ratio: float) -> None:
    model, graph, x = zoo.build(name), zoo.traced(name), zoo.picture()
    paths = [block.path for block in graph.blocks]
    assert paths
    for chosen in (paths, paths[:1], paths[-1:], paths[::2]):
        plan = graph.plan(ratio, removed=chosen)
        small = plan.apply(model)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            found = small(x)
        with torch.no_grad():
            assert zoo.worst_difference(found, plan.mask(model)(x)) < 1e-4
        assert plan.cost().params == count_parameters(small) < graph.cost().params
        assert plan.cost().macs * 2 == counter.get_total_flops()


def test_a_plan_with_blocks_survives_json() -> None:
    graph = zoo.traced("yolov8n.yaml")
    plan = graph.plan(0.2, removed=["model.4.m.1"])
    again = Plan.from_json(plan.to_json())
    assert again == plan and again.digest == plan.digest != graph.plan(0.2).digest


@pytest.mark.parametrize("paths", [["model.9"], ["model.4.m.0", "model.4.m.0"], ["model.12.m.0"]])
def test_what_cannot_be_removed_is_refused(paths: list[str]) -> None:
    with pytest.raises(PlanError, match="no removable blocks or detection levels"):
        zoo.traced("yolov8n.yaml").plan(0.2, removed=paths)
