from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from objectives.image_size import Size
from search.commands.init import write_starter
from search.commands.timing.models import imgsz_of
from search.config.inputs.checkpoint_facts import CheckpointFacts, checkpoint_facts
from search.config.overrides import trained_size
from search.config.spec import load_spec

STUDIES = Path(__file__).parents[4] / "studies"
BASE = STUDIES / "digits" / "yolov8n-digits.pt"


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


class SegmentationModel:
    """Called as Ultralytics' class is."""


def archive(path: Path, document: object) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(document))
    return path


def test_a_checkpoint_says_its_task_and_size() -> None:
    assert checkpoint_facts(BASE) == CheckpointFacts("detect", 128)


def test_nothing_of_a_hostile_file_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    hostile = archive(tmp_path / "a.pt", {"model": Hostile(marker), "train_args": {"imgsz": [320, 640]}})
    assert checkpoint_facts(hostile) == CheckpointFacts(None, 640)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("plan", "size"),
    [
        ({"example_shape": [1, 3, 384, 640]}, (384, 640)),
        ({"example_shape": [1, 3, 96, 96]}, 640),  # a square says less than the training
        ({"example_shape": [1, 8]}, 640),
        ({"kept": {}}, 640),
        ("no plan", 640),
        (["[" * 100_000], 640),
    ],
)
def test_what_was_pruned_for_a_rectangle_runs_at_it(plan: Any, size: Size, tmp_path: Path) -> None:
    text = plan[0] if isinstance(plan, list) else plan if isinstance(plan, str) else json.dumps(plan)
    pruned = archive(tmp_path / "a.pt", {"model": 1, "train_args": {"imgsz": 640}, "paretoprune_plan": text})
    assert checkpoint_facts(pruned).imgsz == size
    assert trained_size({"model": pruned}) == size
    noted = {"model": 1, "train_args": {"imgsz": 640}, "paretoprune_imgsz": "384x640"}  # of pruning in steps
    assert checkpoint_facts(archive(tmp_path / "b.pt", noted)).imgsz == (384, 640)


@pytest.mark.parametrize(
    ("noted", "size"), [("320x512", (320, 512)), (512, 512), ("none", (384, 640)), (True, (384, 640)), (0, (384, 640))]
)
def test_the_size_of_a_fine_tune_comes_before_that_of_the_plan(noted: object, size: Size, tmp_path: Path) -> None:
    plan = json.dumps({"example_shape": [1, 3, 384, 640]})
    document = {"model": 1, "train_args": {"imgsz": 640}, "paretoprune_plan": plan, "paretoprune_imgsz": noted}
    assert checkpoint_facts(archive(tmp_path / "a.pt", document)).imgsz == size
    assert imgsz_of(tmp_path / "a.pt") == size


def test_init_writes_a_rectangle_as_studies_read_it(workplace: Path) -> None:
    archive(workplace / "wide.pt", {"model": 1, "paretoprune_imgsz": "384x640"})
    study = write_starter(workplace / "new.yaml", model="wide.pt")
    assert "imgsz: 384x640" in study.read_text() and load_spec(study).imgsz == (384, 640)


def test_a_task_is_a_text(tmp_path: Path) -> None:
    """Of tuples that share their items a text would have no end."""
    task: tuple[object, ...] = ()
    for _ in range(60):
        task = (task, task)
    model = SegmentationModel()
    vars(model)["task"] = task
    assert checkpoint_facts(archive(tmp_path / "a.pt", {"model": model})) == CheckpointFacts("segment")


@pytest.mark.parametrize("content", [b"", b"nothing", pickle.dumps({"model": 1})])
def test_other_files_say_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    assert checkpoint_facts(tmp_path / "a.pt") == checkpoint_facts(tmp_path / "none.pt") == CheckpointFacts()
    assert checkpoint_facts(archive(tmp_path / "b.pt", ["a list"])) == CheckpointFacts()


def test_a_study_takes_its_size_and_its_accuracy_from_the_checkpoint(workplace: Path) -> None:
    asked = {"model": str(BASE), "data": "data.yaml"}
    assert load_spec(None, asked).imgsz == 128
    assert load_spec(None, {**asked, "imgsz": 64}).imgsz == 64
    archive(workplace / "seg.pt", {"model": SegmentationModel()})
    spec = load_spec(None, {**asked, "model": "seg.pt"})
    assert (spec.imgsz, spec.objectives) == (640, ("mask_map50_95", "latency_ms", "params_m"))
    assert load_spec(None, {**asked, "model": "seg.pt", "objectives": ["map50_95"]}).objectives == ("map50_95",)


def test_init_writes_the_size_and_accuracy_of_the_checkpoint(tmp_path: Path) -> None:
    text = write_starter(tmp_path / "study.yaml", model=str(BASE)).read_text()
    assert "imgsz: 128" in text and "objectives: [map50_95, latency_ms" in text
    assert "imgsz: 640" in write_starter(tmp_path / "other.yaml").read_text()
