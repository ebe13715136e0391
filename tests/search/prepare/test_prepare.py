"""Preparation: levels that a search may remove, counted once; the base's precision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pruning.checkpoints.checkpoint import load_model
from search.config.spec import load_spec
from search.errors import NotComparable
from search.evaluate import reduced_precision, workload
from search.prepare.prepare import LEVELS, base_file, levels_of, prepare_in_child
from search.trial import Measurement
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


@pytest.mark.parametrize(("own", "known"), [("int8", None), ("int8", "fp16"), ("fp32", "int8")])
def test_trials_are_not_compared_with_a_base_in_another_precision(
    tiny: Path, tmp_path: Path, own: str, known: str | None
) -> None:
    """Runs of before timed an INT8 study's base in float32, and did not write down what it was timed in."""
    keys = {"model": str(tiny / "base.pt"), "data": str(tiny / "data" / "data.yaml"), "space.precision": [own]}
    base = Measurement(figures={}, timing={} if known is None else {"precision": known})
    with pytest.raises(NotComparable, match=f"measured in {known or 'fp32'}, the study's own precision is {own}"):
        prepare_in_child(load_spec(None, keys), tmp_path, base)
    assert not list(tmp_path.iterdir())


def test_the_quantised_base_is_made_once(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(reduced_precision, "file_to_time", lambda *words: made.append(words[2]) or tmp_path)
    keys = {"model": str(tiny / "base.pt"), "data": str(tiny / "data" / "data.yaml")}
    for precision, name in (("int8", "base_int8.onnx"), ("fp32", "base.onnx")):
        spec = load_spec(None, {**keys, "space.precision": [precision]})
        base_file(spec, None, tmp_path, is_measured=True)
        (tmp_path / name).touch()
        base_file(spec, None, tmp_path, is_measured=False)
        base_file(spec, None, tmp_path, is_measured=True)
    assert made == ["int8", "int8", "fp32", "fp32", "fp32"], "in float32 it is cheap, and as this version exports it"
