"""data.json: what a run was measured on, checked when it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.config.spec import StudySpec, load_spec
from search.errors import ConfigError, NotComparable, RunCorrupt
from search.evaluate.data_record import FILE, record_data
from tests.tiny_data import make_tiny_data

MODEL = SimpleNamespace(task="detect", args={})


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    (tmp_path / "best.pt").write_bytes(b"weights")
    (tmp_path / "run").mkdir()
    data = make_tiny_data(tmp_path / "data", size=32)
    return load_spec(None, {"model": str(tmp_path / "best.pt"), "data": str(data)})


def recorded(spec: StudySpec, is_measured: bool = True) -> Any:
    return record_data(spec, MODEL, Path(spec.model).parent / "run", is_measured=is_measured)


def label(spec: StudySpec) -> Path:
    return Path(spec.data).parent / "labels" / "train" / "000.txt"


def test_other_labels_are_refused_by_name(spec: StudySpec) -> None:
    first = recorded(spec, is_measured=False)
    assert recorded(spec) == first
    label(spec).write_text("1 0.5 0.5 0.5 0.5\n")
    with pytest.raises(NotComparable, match="train: other labels: 1 of 12") as refused:
        recorded(spec)
    assert refused.value.exit_code == 5 and "name=NEW_NAME" in str(refused.value)


def test_before_the_base_is_measured_data_may_change(spec: StudySpec) -> None:
    first = recorded(spec, is_measured=False)
    label(spec).unlink()
    assert recorded(spec, is_measured=False) != first


def test_an_older_run_has_its_data_recorded_from_here_on(spec: StudySpec) -> None:
    recorded(spec)
    label(spec).unlink()
    with pytest.raises(NotComparable, match="labels gone"):
        recorded(spec)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', "[" * 100_000])
def test_a_damaged_record_is_named(content: str, spec: StudySpec) -> None:
    recorded(spec)
    path = Path(spec.model).parent / "run" / FILE
    path.write_text(content)
    with pytest.raises(RunCorrupt, match=r"data\.json cannot be read"):
        recorded(spec)


def test_the_record_of_a_newer_version_is_not_to_be_removed(spec: StudySpec) -> None:
    recorded(spec)
    (Path(spec.model).parent / "run" / FILE).write_text('{"format": 99}')
    with pytest.raises(RunCorrupt, match="written by a newer version: its format is 99") as refused:
        recorded(spec)
    assert "pip install" in str(refused.value) and "rm " not in str(refused.value)


def test_an_image_whose_link_leads_nowhere_stops_no_resume(spec: StudySpec) -> None:
    image = Path(spec.data).parent / "images" / "train" / "003.png"
    image.unlink()
    image.symlink_to(image.name)
    first = recorded(spec, is_measured=False)
    assert "symbolic links" in first.faults("train")[str(image)]
    assert recorded(spec) == first


def test_what_is_left_out_is_recorded_and_said(spec: StudySpec) -> None:
    images = Path(spec.data).parent / "images"
    (images / "train" / "003.png").write_bytes(b"garbage")
    found = recorded(spec)
    line = f"1 of 12 training images left out, as Ultralytics leaves them out: {images / 'train' / '003.png'} "
    assert found.notes == (f"{line}(no image that can be read)",)
    said = json.loads((Path(spec.model).parent / "run" / FILE).read_text())
    assert said["splits"]["train"]["images"]["images/train/003.png"] == [None, None, "", "no image that can be read"]
    for file in (images / "val").iterdir():
        file.write_bytes(b"garbage")
    with pytest.raises(ConfigError, match="none of the 6 validation images can be used"):
        recorded(spec)


def test_the_files_of_a_users_own_task_count(spec: StudySpec, tmp_path: Path) -> None:
    (tmp_path / "ef.py").write_text("task = None\n")
    (tmp_path / "clips" / "deep").mkdir(parents=True)
    clip = tmp_path / "clips" / "deep" / "a.npy"
    clip.write_bytes(b"frames")
    own = spec.model_copy(update={"data": f"{tmp_path / 'ef.py'}:task@{tmp_path / 'clips'}"})
    recorded(own)
    recorded(own)
    clip.write_bytes(b"others")
    with pytest.raises(NotComparable, match=r"other contents: 1 of 1 \(deep/a.npy\)"):
        recorded(own)
