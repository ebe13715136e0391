"""A network that is trained anew within a time: of the study's task, with the augmentations of its rival."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pruning.checkpoints.checkpoint import count_parameters, load_model
from pruning.errors import RecoveryError
from pruning.recovery.new_training import train_anew
from tests.tiny_data import make_tiny_data
from ultralytics_versions import parts


class Like(torch.nn.Module):
    """What is asked of the model that it competes with."""

    def __init__(self, **args: Any) -> None:
        super().__init__()
        self.task, self.args = "detect", args


def trained(source: str, folder: Path, seconds: float = 1.0, **like: float) -> Path:
    """Trained on the tiny data, without mirroring if nothing else is said."""
    rival = Like(**(like or {"fliplr": 0.0}))
    return train_anew(
        source, folder / "data" / "data.yaml", like=rival, seconds=seconds, imgsz=64, batch=8, device="cpu",
        seed=0, target=folder / "row" / "trained.pt",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("none.yaml", r"none\.yaml cannot be trained"),
        ("yolov8n-seg.yaml", "is a segment model, the study's is a detect"),
    ],
)
def test_what_is_no_rival_is_refused(source: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(RecoveryError, match=expected):
        trained(source, tmp_path)
    assert not (tmp_path / "row").exists()


def test_settings_of_a_later_release_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ultralytics refuses a setting that it does not have."""
    from ultralytics.models.yolo.model import YOLO

    said: dict[str, Any] = {}

    def train(model: Any, **settings: Any) -> None:
        said.update(settings)
        model.trainer = SimpleNamespace(best=tmp_path / "none.pt")

    older = {key: value for key, value in parts.DEFAULT_CFG_DICT.items() if key != "fliplr"}
    monkeypatch.setattr(parts, "DEFAULT_CFG_DICT", older)
    monkeypatch.setattr(YOLO, "train", train)
    with pytest.raises(RecoveryError, match="left no checkpoint"):
        trained("yolov8n.yaml", tmp_path, fliplr=0.0, flipud=0.5)
    assert said["flipud"] == 0.5 and "fliplr" not in said and said["imgsz"] == 64


@pytest.mark.slow
def test_a_training_ends_with_its_time_and_leaves_one_file(tmp_path: Path) -> None:
    make_tiny_data(tmp_path / "data")
    began = time.monotonic()
    found = load_model(trained("yolov8n.yaml", tmp_path, seconds=2.0))
    assert time.monotonic() - began < 100, "not a hundred epochs"
    assert [path.name for path in (tmp_path / "row").iterdir()] == ["trained.pt"]
    assert count_parameters(found) > 3e6 and found.names == {0: "dark", 1: "bright"}
    settings: Any = found.args
    assert settings["fliplr"] == 0.0, "an augmentation of its rival"
