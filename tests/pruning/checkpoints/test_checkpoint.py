"""Weights on disk: whole, safe, and written in one piece."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pruning import CheckpointError
from pruning.checkpoints.checkpoint import file_digest, load_model, network_of, save_model, write_atomically
from tests.pruning import zoo
from ultralytics_versions.parts import Absent


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    save_model(zoo.build("yolov8n.yaml"), path, plan="{}", note="a test")
    return path


def test_what_was_saved_is_what_loads(saved: Path) -> None:
    model, again = zoo.build("yolov8n.yaml"), load_model(saved)
    for (name, a), (other, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(a.half().float() if a.is_floating_point() else a, b)
    assert again.task == "detect" and not again.training


@pytest.mark.skipif(not zoo.exists("yolo26n.yaml"), reason="this Ultralytics has no YOLO26")
def test_a_network_of_a_later_release_is_refused_by_name(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its classes are all there before 8.4.0, where another of its heads would be run and trained."""
    save_model(zoo.build("yolo26n.yaml"), tmp_path / "later.pt")
    save_model(zoo.build("yolov10n.yaml"), tmp_path / "earlier.pt")
    load_model(tmp_path / "later.pt")
    monkeypatch.setattr("pruning.checkpoints.checkpoint.E2ELoss", Absent)
    with pytest.raises(CheckpointError, match=r"later\.pt: a YOLO26, which Ultralytics .* 8\.4\.0 or later"):
        load_model(tmp_path / "later.pt")
    for other in (saved, tmp_path / "earlier.pt"):
        load_model(other)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.pt: no such file"):
        load_model(tmp_path / "nothing.pt")


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"odd\.pt: damaged or not"):
        load_model(path)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(saved: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "cut.pt"
    content = saved.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(path)


def test_one_flipped_bit_is_found(saved: Path, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "flipped.pt"
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="checksum"):
        load_model(path)


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_a_hostile_file_runs_nothing(tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "hostile.pt"
    torch.save({"model": Hostile(marker)}, path)
    with pytest.raises(CheckpointError, match="loaded safely"):
        load_model(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists(), "the file is not hostile, so the test proves nothing"


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model = zoo.build("yolov3-tiny.yaml")
    broken = tmp_path / "nan.pt"
    first = next(model.parameters())
    kept = first.detach().clone()
    with torch.no_grad():
        first.view(-1)[0] = float("nan")
        save_model(model, broken)
        first.copy_(kept)
    with pytest.raises(CheckpointError, match="NaN"):
        load_model(broken)


def test_statistics_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    model: Any = copy.deepcopy(zoo.build("yolov8n.yaml"))
    next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d)).running_var.fill_(float("nan"))
    save_model(model, tmp_path / "nan.pt")
    with pytest.raises(CheckpointError, match="infinite batch-norm statistics"):
        load_model(tmp_path / "nan.pt")


def test_a_number_beyond_half_precision_becomes_its_largest(tmp_path: Path) -> None:
    model: Any = copy.deepcopy(zoo.build("yolov8n.yaml"))
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    norm.running_var[0], norm.running_mean[0] = 1e6, -1e6
    save_model(model, tmp_path / "large.pt")
    read = next(module for module in load_model(tmp_path / "large.pt").modules() if isinstance(module, nn.BatchNorm2d))
    assert (float(read.running_var[0]), float(read.running_mean[0])) == (65504.0, -65504.0)
    assert float(norm.running_var[0]) == 1e6, "the network itself was changed"


def test_a_file_can_be_read_by_others(saved: Path) -> None:
    assert saved.stat().st_mode & 0o777 == 0o644


def test_quantised_weights_are_refused_by_their_type(tmp_path: Path) -> None:
    model: Any = copy.deepcopy(zoo.build("yolov8n.yaml"))
    model.model[0].conv.weight = nn.Parameter(torch.ones(16, 3, 3, 3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(CheckpointError, match=r"torch\.int8, so it was quantised"):
        network_of(tmp_path / "int8.pt", {"model": model})


def test_training_arguments_of_another_kind_are_ignored(saved: Path, tmp_path: Path) -> None:
    document = torch.load(saved, weights_only=False)
    torch.save({**document, "train_args": "--img 640"}, tmp_path / "odd.pt")
    assert load_model(tmp_path / "odd.pt").args["imgsz"] == 640


def test_a_checkpoint_of_the_yolov5_repository_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--trust would not help: the package cannot run such a network."""
    module, kind = types.ModuleType("models.yolo"), type("Model", (nn.Module,), {"__module__": "models.yolo"})
    module.Model = kind  # type: ignore[attr-defined]
    with monkeypatch.context() as there:
        there.setitem(sys.modules, "models", types.ModuleType("models"))
        there.setitem(sys.modules, "models.yolo", module)
        torch.save({"model": kind()}, tmp_path / "v5.pt")
    with pytest.raises(CheckpointError, match="YOLOv5 repository") as refused:
        load_model(tmp_path / "v5.pt")
    assert "--trust" not in str(refused.value)


def test_a_failed_write_leaves_the_old_file(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "kept.pt"
    path.write_bytes(saved.read_bytes())
    before = file_digest(path)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        write_atomically(path, {"model": lambda: None, "later": object})
    assert file_digest(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.pt"]
