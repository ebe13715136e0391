"""No file is handed over that has not run once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pruning import Plan
from pruning.checkpoints.checkpoint import save_model
from pruning.errors import PlanError
from search.commands.prune.one_shot import OneShotPruning, prune_in_child
from search.errors import ConfigError
from tests.pruning import zoo


class Broken(nn.Module):
    """What a plan made for another version may leave."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(1, -1, 7)


def test_a_network_that_does_not_run_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo.build("yolov8n.yaml")
    save_model(model, tmp_path / "base.pt")
    (tmp_path / "plan.json").write_text(zoo.traced("yolov8n.yaml").plan(0.3).to_json())
    keys = {"model": str(tmp_path / "base.pt"), "plan": str(tmp_path / "plan.json"), "out": str(tmp_path / "out")}
    monkeypatch.setattr(Plan, "apply", lambda plan, network: Broken())
    with pytest.raises(ConfigError, match="does not fit the model: shape"):
        prune_in_child(OneShotPruning.from_keys(keys))
    assert not (tmp_path / "out" / "pruned.pt").exists()
    monkeypatch.undo()
    facts = prune_in_child(OneShotPruning.from_keys(keys))
    with torch.no_grad():
        assert torch.load(facts["model"], weights_only=False)["model"].float()(torch.rand(1, 3, 64, 64)) is not None


def test_each_layer_has_the_ratio_that_a_file_gives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, graph = zoo.build("yolov8n.yaml"), zoo.traced("yolov8n.yaml")
    monkeypatch.setattr("pruning.trace", lambda model, example: replace(graph, model=model, slice_templates=[]))
    save_model(model, tmp_path / "base.pt")
    ratios = tmp_path / "ratios.yaml"
    ratios.write_text("model.4.m.0.cv1: 0.5  # a layer\nmodel.6.m: 0.25  # a block\n")
    keys = {"model": str(tmp_path / "base.pt"), "ratios": str(ratios), "imgsz": 64, "out": str(tmp_path / "out")}
    facts = prune_in_child(OneShotPruning.from_keys(keys))
    plan = Plan.from_json(Path(facts["plan"]).read_text())
    assert plan == graph.plan({"model.4.m.0.cv1": 0.5, "model.6.m": 0.25}, round_to=8)
    assert plan.widths["model.4.m.0.cv1"] == 16 and plan.widths["model.4.m.1.cv1"] == 32
    ratios.write_text("model.4.m.0.cvl: 0.5\n")
    with pytest.raises(PlanError, match=r"did you mean.*model\.4\.m\.0\.cv1"):
        prune_in_child(OneShotPruning.from_keys(keys))


@pytest.mark.parametrize(
    ("text", "more", "expected"),
    [
        ("model.4: 1.5", {}, "ratios.yaml line 1"),
        ("model.4: half", {}, "'half' is not a ratio"),
        ("", {}, "no ratio is named"),
        ("model.4: 0.1\nmodel.4: 0.2", {}, "given twice"),
        ("model.4: 0.1", {"ratio": 0.3}, "so ratio= is not allowed"),
        ("model.4: 0.1", {"groups": "model.4"}, "so groups= is not allowed"),
    ],
)
def test_faults_of_a_file_of_ratios_are_named(
    text: str, more: dict[str, object], expected: str, tmp_path: Path
) -> None:
    (tmp_path / "base.pt").touch()
    (tmp_path / "ratios.yaml").write_text(text)
    keys = {"model": str(tmp_path / "base.pt"), "ratios": str(tmp_path / "ratios.yaml"), **more}
    with pytest.raises(ConfigError, match=expected):
        OneShotPruning.from_keys(keys)
