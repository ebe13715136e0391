"""Preparation: which detection levels a search may remove, counted once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pruning.checkpoints.checkpoint import load_model
from search.config.spec import load_spec
from search.evaluate import workload
from search.prepare.prepare import LEVELS, levels_of
from tests import shelf


def test_idle_levels_are_counted_once_and_stay_those_of_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"model": str(tiny / "base.pt"), "data": str(tiny / "data" / "data.yaml"), "imgsz": 64}
    spec, model = load_spec(None, {**keys, "space.levels": True}), load_model(tiny / "base.pt")
    graph = shelf.trace(model, torch.zeros(1, 3, 64, 64))
    beats: list[int] = []
    first = levels_of(spec, model, graph, "cpu", tmp_path, lambda: beats.append(1))
    written = json.loads((tmp_path / LEVELS).read_text())
    assert beats and written["objects"] == 12 and [level.path for level in first] == written["idle"]
    (tmp_path / LEVELS).write_text(json.dumps({**written, "idle": ["P4"]}))
    monkeypatch.setattr(workload, "level_use", lambda *_, **__: pytest.fail("counted again"))
    assert [level.path for level in levels_of(spec, model, graph, "cpu", tmp_path, lambda: None)] == ["P4"]
    without = load_spec(None, {**keys, "space.levels": False})
    assert levels_of(without, model, graph, "cpu", tmp_path, lambda: None) == ()
    assert [path.name for path in tmp_path.iterdir()] == [LEVELS]
