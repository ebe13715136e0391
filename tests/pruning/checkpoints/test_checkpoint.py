"""Weights on disk: whole, safe, and written in one piece."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from pruning import CheckpointError
from pruning.checkpoints.checkpoint import file_digest, load_model, save_model, write_atomically
from tests.pruning import zoo


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


def test_a_failed_write_leaves_the_old_file(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "kept.pt"
    path.write_bytes(saved.read_bytes())
    before = file_digest(path)
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        write_atomically(path, {"model": lambda: None, "later": object})
    assert file_digest(path) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.pt"]
