"""Attention heads that go whole: exact, exactly priced, alone and with channels."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pruning
from pruning import Plan, PlanError
from pruning.checkpoints.checkpoint import count_parameters
from pruning.importance import as_scores
from tests.pruning import zoo


@pytest.mark.parametrize("name", ["yolov10n.yaml", "yolo11n.yaml", "yolo12n.yaml", "yolo26n.yaml"])
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
    again = Plan.from_json(plan.to_json())
    assert again == plan
    if ratio:  # traced anew, as a plan from a file is
        assert again.apply(zoo.build(name)).get_submodule(block).num_heads == 1


@pytest.mark.parametrize(
    ("heads", "message"), [({"model.9": 1}, "not an attention block"), ({"model.10.m.0.attn": 0}, "keep 0")]
)
def test_what_cannot_be_asked_is_refused(heads: dict[str, int], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        zoo.traced("yolo11n.yaml").plan(0.0, heads=heads)


@settings(max_examples=8, deadline=None)
@given(ratio=st.floats(0.05, 0.95), round_to=st.sampled_from([1, 4, 8]), heads=st.booleans(), seed=st.integers(0, 99))
def test_area_attention_loses_value_channels_and_heads(ratio: float, round_to: int, heads: bool, seed: int) -> None:
    """Each head keeps as many channels as the others; queries and keys keep the same ones, values choose their own."""
    name = "yolo12n.yaml"
    model, graph = copy.deepcopy(zoo.build(name)).double(), zoo.traced(name)
    block = "model.8.m.0.0.attn"
    units = int(graph.table.starts[-1])
    scores = as_scores(graph.table, "mine", np.random.default_rng(seed).random(units))
    plan = graph.plan({block: ratio}, scores, round_to=round_to, heads={block: 2} if heads else None)
    small, before = plan.apply(model).get_submodule(block), model.get_submodule(block)
    assert small.num_heads == (2 if heads else before.num_heads)
    assert small.all_head_dim == small.head_dim * small.num_heads == small.proj.conv.in_channels
    assert small.qkv.conv.out_channels == 3 * small.all_head_dim and small.head_dim <= before.head_dim
    assert small.head_dim % round_to == 0
    rows = plan.unit_mask(graph.table)[graph.table.slots[f"{block}.qkv.conv.weight", 0]]
    by_head = rows.reshape(before.num_heads, 3, before.head_dim)
    assert (by_head[:, 0] == by_head[:, 1]).all()
    assert {int(count) for count in by_head.sum(2).ravel()} <= {0, small.head_dim}
    if 1 < small.head_dim < before.head_dim - 1:
        assert (by_head[:, 0] != by_head[:, 2]).any(), "values choose their own"
    x = zoo.picture().double()
    with torch.no_grad():
        assert zoo.worst_difference(plan.apply(model)(x), plan.mask(model)(x)) < 1e-9


@pytest.mark.parametrize("name", ["yolo11n.yaml", "yolo12n.yaml"])
def test_the_scale_is_that_of_the_new_width(name: str) -> None:
    """The queries take over what the narrower head changes, so a runtime that computes the scale itself is right."""
    model, graph = copy.deepcopy(zoo.build(name)).double(), zoo.traced(name)
    plan, x = graph.plan(0.5), zoo.picture().double()
    pair = plan.apply(model), plan.mask(model)
    for module in (m for net in pair for m in net.modules() if type(m).__name__ == "Attention"):
        assert module.scale == module.key_dim**-0.5
        module.format = "coreml"  # scaled_dot_product_attention, with its own scale
    with torch.no_grad():
        assert zoo.worst_difference(pair[0](x), pair[1](x)) < 1e-9


def test_a_fused_attention_is_rescaled_too() -> None:
    model = zoo.calibrated("yolo12n.yaml").fuse(verbose=False)
    x = zoo.picture()
    graph = pruning.trace(model, x)
    plan = graph.plan(0.5)
    with torch.no_grad():
        assert zoo.worst_difference(plan.apply(model)(x), plan.mask(model)(x)) < 1e-4


def test_a_plan_of_other_groups_is_refused() -> None:
    text = zoo.traced("yolo12n.yaml").plan(0.5).to_json().replace("model.8.m.0.0.attn.qkv", "model.8.m.0.0.attn.old")
    with pytest.raises(PlanError, match="another version"):
        Plan.from_json(text).apply(zoo.build("yolo12n.yaml"))
