"""The table computes what the cost model and the width rule compute, on random plans with and without blocks."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from pruning import ChannelGraph
from pruning.cost_table import cost_table, width_rule
from tests import shelf


@pytest.fixture(scope="module", params=["yolov8n", "yolo11n"])
def graph(request: pytest.FixtureRequest) -> ChannelGraph:
    torch.manual_seed(0)
    return shelf.trace(DetectionModel(f"{request.param}.yaml", nc=3, verbose=False), torch.zeros(1, 3, 64, 64))


def counted(table: dict[str, Any], widths: dict[str, int], removed: list[str]) -> tuple[int, int]:
    """(params, macs) from the table alone, as the module's head says."""
    along = [widths[name] for name in table["groups"]]

    def total(form: Any) -> float:
        return sum(weight * along[group] for group, weight in form)

    counts = [
        total(c["of"]) - sum(total(c.get("less", {}).get(path, ())) for path in removed) for c in table["columns"]
    ]
    counts[0] = 1
    gone = {table["blocks"].index(path) for path in removed}
    params, macs = (
        sum(f * counts[i] * counts[j] for f, i, j, *blocks in table[name] if not gone & set(blocks))
        for name in ("params", "macs")
    )
    return round(params), round(macs)


def test_it_counts_what_the_plan_counts(graph: ChannelGraph) -> None:
    table, chance = json.loads(json.dumps(cost_table(graph))), random.Random(5)
    paths = [block.path for block in graph.blocks]
    for case in range(25):
        removed = sorted(path for path in paths if chance.random() < 0.3) if case else []
        plan = graph.plan(by_tie(graph, chance), round_to=chance.choice([1, 4, 8]), removed=removed)
        assert counted(table, plan.widths, removed) == (plan.cost().params, plan.cost().macs)


def test_a_head_with_one_level_loses_no_work(graph: ChannelGraph) -> None:
    """None of its levels can go, so nothing of its distribution layer is shared out among levels."""
    assert graph.pyramid is not None
    alone = replace(graph, pyramid=replace(graph.pyramid, names=("P3",), strides=(8,)))
    widths = graph.plan(0.0).widths
    assert counted(cost_table(alone), widths, []) == (graph.cost().params, graph.cost().macs)


def by_tie(graph: ChannelGraph, chance: random.Random) -> dict[str, float]:
    """One random ratio per tie."""
    drawn: dict[str, float] = {}
    return {group.name: drawn.setdefault(group.tie or group.name, chance.uniform(0, 0.9)) for group in graph.free}


@pytest.mark.parametrize("round_to", [1, 8, 12])
def test_the_rule_gives_the_widths_of_the_plan(graph: ChannelGraph, round_to: int) -> None:
    rule, chance = width_rule(graph, round_to), random.Random(round_to)
    for _ in range(10):
        ratios = by_tie(graph, chance)
        widths = graph.plan(ratios, round_to=round_to).widths
        for tie in rule:
            wanted = math.ceil((1 - ratios[tie["groups"][0]]) * tie["n"] - 1e-9)
            width = min(tie["n"], max(tie["minimum"], math.ceil(wanted / tie["step"]) * tie["step"]))
            assert [widths[name] for name in tie["groups"]] == [step * width for step in tie["steps"]]


def test_it_is_small(graph: ChannelGraph) -> None:
    assert len(json.dumps(cost_table(graph))) < 20_000


def test_layers_name_the_columns_of_their_outputs_and_inputs(graph: ChannelGraph) -> None:
    table = cost_table(graph)
    out, into = table["layers"]["model.1.conv"]
    assert table["columns"][out]["of"] == ((table["groups"].index("model.1"), 1),)
    assert table["columns"][into]["of"] == ((table["groups"].index("model.0"), 1),)
