"""A study of a YOLO object has the weights that the object has."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from ultralytics import YOLO

from pruning.checkpoints.checkpoint import load_model
from pruning.checkpoints.trusted import write_clean_copy
from pruning.errors import CheckpointError
from search import Study
from search.config.inputs.loaded_model import checkpoint_of
from search.errors import ConfigError
from search.run_folder.artefact_files import digest as file_digest


@pytest.fixture
def model(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> YOLO:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny / "base.pt", tmp_path / "best.pt")
    return YOLO("best.pt")


def test_an_object_as_it_was_read_is_its_file(model: YOLO, tiny: Path, tmp_path: Path) -> None:
    data = tiny / "data" / "data.yaml"
    study = Study(model=model, data=data, imgsz=64, search={"trials": 5}, recover={"epochs": 0})
    assert study.spec.model == str(tmp_path / "best.pt") and study.spec.data == str(data)
    assert study.spec.search.trials == 5 and study.spec.recover.epochs == 0 and study.spec.run_name == "best"
    assert not (tmp_path / "runs").exists()
    model.model.fuse(verbose=False)  # as a prediction does
    assert checkpoint_of(model, tmp_path / "models") == tmp_path / "best.pt"


def test_an_object_that_was_changed_is_written_once(model: YOLO, tiny: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        next(model.model.parameters()).add_(1e-4)
    study = Study(model=model, data=tiny / "data" / "data.yaml", project=str(tmp_path / "runs"))
    made = Path(study.spec.model)
    assert made.parent == tmp_path / "runs" / "models" and made.name.startswith("yolov8n-")
    written, changed = load_model(made).state_dict(), model.model.state_dict()
    assert all(torch.equal(written[name], tensor) for name, tensor in changed.items())
    stamp = made.stat().st_mtime_ns
    assert checkpoint_of(model, made.parent) == made and made.stat().st_mtime_ns == stamp
    model.model.pt_path = model.ckpt_path = None
    model.model.fuse(verbose=False)
    with pytest.raises(ConfigError, match="were fused"):
        checkpoint_of(model, made.parent)


def test_a_fused_object_that_was_changed_is_not_taken_for_its_file(model: YOLO, tmp_path: Path) -> None:
    model.model.fuse(verbose=False)
    with torch.no_grad():
        next(model.model.parameters()).add_(1e-4)
    with pytest.raises(ConfigError, match="were fused"):
        checkpoint_of(model, tmp_path / "models")
    model = YOLO("best.pt")
    model.model.fuse(verbose=False).half()  # as a prediction in half precision leaves it
    assert checkpoint_of(model, tmp_path / "models") == tmp_path / "best.pt"


class Own:
    """What the restricted loader does not know."""


def test_an_object_of_a_trusted_file_is_that_file(model: YOLO, tiny: Path, tmp_path: Path) -> None:
    # after it was read: outside of tests Ultralytics' own loader reads this, too
    torch.save({**torch.load("best.pt", weights_only=False), "callbacks": Own()}, "best.pt")
    digest, data = file_digest(Path("best.pt")), tiny / "data" / "data.yaml"
    with pytest.raises(CheckpointError, match=f"Its sha256 is {digest}"):
        Study(model=model, data=data)
    clean = tmp_path / "runs" / "prune" / "trusted" / f"{digest}.pt"
    clean.parent.mkdir(parents=True)
    write_clean_copy(Path("best.pt"), digest, clean)  # what a child process does otherwise
    study = Study(model=model, data=data, trust=digest)
    assert study.spec.model == str(clean) and study.spec.run_name == "best"


def test_an_exported_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "best.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match="exported model"):
        Study(model=YOLO(tmp_path / "best.onnx", task="detect"), data="data.yaml")
