"""Attention heads that go whole: exact, exactly priced, alone and with channels."""

from __future__ import annotations

import copy

import pytest
import torch

from pruning import Plan, PlanError
from pruning.checkpoint import count_parameters
from tests.pruning import zoo


@pytest.mark.parametrize("name", ["yolov10n.yaml", "yolo11n.yaml", "yolo26n.yaml"])
@pytest.mark.parametrize("ratio", [0.0, 0.4])
def test_a_model_without_a_head_equals_its_mask(name: str, ratio: float) -> None:
    model, graph = copy.deepcopy(zoo.build(name)).double(), zoo.traced(name)
    assert graph.attention
    x = zoo.picture().double()
    plan = graph.plan(ratio, importance="random", heads=dict.fromkeys(graph.attention, 1))
    small, whole = plan.apply(model), graph.plan(ratio, importance="random")
    with torch.no_grad():
        assert zoo.worst_difference(small(x), plan.mask(model)(x)) < 1e-9
        assert zoo.worst_difference(small(x), whole.apply(model)(x) if ratio else model(x)) > 1e-6
    assert plan.cost().params == count_parameters(small) < whole.cost().params
    for block in graph.attention:
        attention = small.get_submodule(block)
        assert attention.num_heads == 1
        assert attention.proj.conv.in_channels == attention.head_dim
    assert Plan.from_json(plan.to_json()).apply(zoo.build(name)).get_submodule(block).num_heads == 1


@pytest.mark.parametrize(
    ("heads", "message"), [({"model.9": 1}, "not an attention block"), ({"model.10.m.0.attn": 0}, "keep 0")]
)
def test_what_cannot_be_asked_is_refused(heads: dict[str, int], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        zoo.traced("yolo11n.yaml").plan(0.0, heads=heads)
