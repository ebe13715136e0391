"""The iterative study: its keys are those of the write-up, its claims are its own figures, and it runs small."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pruning.checkpoints.checkpoint import count_parameters, load_model
from search.commands.arguments import file_and_keys
from search.commands.prune import iterative
from search.commands.prune.iterative import IterativePruning, run_iterative
from search.config.spec import load_spec
from studies.seg_shapes.make_data import make_data

STUDY = Path(__file__).parents[2] / "studies" / "iterative_seg"
PARAMS, MACS, BOX, MASK = -0.376, -0.273, -0.245, -0.252
"""What the write-up lost: parameters, MACs, box and mask mAP50-95, relative."""


def test_a_step_of_it_runs_from_its_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterative, "run_isolated", lambda function, arguments, *_, **__: function(*arguments))
    data = make_data(tmp_path / "data", train=8, val=4)
    words = [str(STUDY / "steps.yaml"), f"data={data}", "steps=1", f"out={tmp_path / 'out'}", "max_drop=1"]
    order = IterativePruning.from_keys(file_and_keys([*words, "recover.epochs=0", "device=cpu"]))
    whole = IterativePruning.from_keys(file_and_keys([str(STUDY / "steps.yaml"), f"data={data}"]))
    assert (whole.steps, order.steps, order.imgsz) == (10, 1, 160) and whole.max_drop is not None
    facts = run_iterative(order)
    assert {row["figure"] for row in facts["steps"]} == {"mask_map50_95"}
    assert count_parameters(load_model(facts["model"])) < count_parameters(load_model(order.model))


def test_the_search_has_pruning_and_int8_on_one_front() -> None:
    spec = load_spec(STUDY / "study.yaml", check_paths=False)
    assert spec.space.precision == ("fp32", "int8") and "published" in spec.budgets


def test_boxes_and_masks_lose_less_than_a_fifth_at_the_same_cuts() -> None:
    base, *rows = json.loads((STUDY / "compare.json").read_text())
    steps, pick = rows[1], rows[-1]

    def change(row: dict[str, Any], name: str) -> float:
        before, after = (one["figures"].get(name, one.get(name)) for one in (base, row))
        return float(after / before - 1)

    for row in (steps, pick):
        assert change(row, "params_m") <= PARAMS and change(row, "macs_g") <= MACS
    assert change(pick, "map50_95") >= BOX / 5 and change(pick, "mask_map50_95") >= MASK / 5
    assert change(steps, "map50_95") >= BOX / 2 and change(steps, "mask_map50_95") >= MASK / 2
    text = (STUDY / "README.md").read_text()
    for row in (steps, pick):
        for name in ("map50_95", "mask_map50_95"):
            assert f"{row['figures'][name]:.3f} ({100 * change(row, name):.1f} %)" in text


def test_pruning_and_int8_are_on_one_front() -> None:
    rows = list(csv.DictReader((STUDY / "front.csv").read_text().splitlines()))
    quantised = [row for row in rows if row["dtype"] == "int8"]
    assert any(float(row["params_m"]) < 2 for row in quantised) and len(quantised) < len(rows)
