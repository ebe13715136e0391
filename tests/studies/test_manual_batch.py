"""The write-up's ten convolutions: the same widths, their arithmetic, and figures that belong to a run."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pruning import trace
from pruning.checkpoints.checkpoint import count_parameters, load_model
from search.commands.arguments import file_and_keys
from search.commands.prune.groupwise import GroupwisePruning
from search.config.spec import load_spec
from search.evaluate.workload import example_input
from search.space import chosen_groups

STUDY = Path(__file__).parents[2] / "studies" / "manual_batch"
KEPT = [14, 28, 28, 55, 55, 109, 55, 28, 55, 109]
"""What the write-up lists, layer by layer."""


@pytest.fixture
def order() -> GroupwisePruning:
    keys = file_and_keys([str(STUDY / "batch.yaml"), f"data={STUDY / 'batch.yaml'}"])  # the data may not be made yet
    return GroupwisePruning.from_keys(keys)


def test_the_ten_convolutions_lose_what_the_write_up_says(order: GroupwisePruning) -> None:
    model = load_model(order.model)
    graph = trace(model, example_input(model, order.imgsz))
    names = [group.name for group in chosen_groups(tuple(graph.free), order.groups)]
    assert len(names) == 10
    plan = graph.plan(dict.fromkeys(names, order.ratio), round_to=order.round_to)
    assert [plan.widths[name] for name in names] == KEPT and sum(KEPT) == 536
    full = {group.name: group.size for group in graph.groups}
    assert sum(full[name] for name in names) == 624
    gone = count_parameters(model) - count_parameters(plan.apply(model))
    # Two 3 x 3 convolutions share n channels and lose k of them: 9 n k each, and k scales and shifts.
    assert gone == sum(18 * full[n] * (full[n] - k) + 2 * (full[n] - k) for n, k in zip(names, KEPT, strict=True))
    assert gone == 136_688


def test_the_search_is_the_wish_list() -> None:
    spec = load_spec(STUDY / "study.yaml", check_paths=False)
    assert spec.space.depth and spec.recover.distill and spec.space.groups == "auto" and not spec.space.ignore


def test_the_figures_are_those_of_the_run() -> None:
    text = (STUDY / "README.md").read_text()
    if not (STUDY / "compare.json").is_file():
        assert "not run yet" in text
        return
    rows = list(csv.DictReader((STUDY / "groups.csv").read_text().splitlines()))
    assert [int(row["width"]) for row in rows[1:]] == KEPT
    base, pruned, tuned = json.loads((STUDY / "compare.json").read_text())
    removed = round((base["params_m"] - tuned["params_m"]) * 1e6)
    accepted = [row for row in rows[1:] if row["accepted"] == "True"]
    assert (removed == 136_688) == (len(accepted) == 10) and pruned["params_m"] == tuned["params_m"]
    for figure in (f"{tuned['figures']['map50_95']:.3f}", f"{tuned['latency_ms']:.2f} ms"):
        assert figure in text, figure
