"""No file is handed over that has not run once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pruning import Plan
from pruning.checkpoints.checkpoint import save_model
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
