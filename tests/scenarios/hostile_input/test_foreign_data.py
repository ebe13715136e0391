"""Data, settings and names that somebody else wrote: nothing of them runs, downloads, or leaves its folder."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.config.inputs.dataset import LabelRules, open_dataset
from search.config.inputs.dataset_yaml import MAX_BYTES, read_data_yaml
from search.config.inputs.ultralytics_safety import harden, load_cache
from search.config.spec import load_spec
from search.errors import ConfigError


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def cache_of(path: Path, content: Any) -> Path:
    with path.open("wb") as file:
        np.save(file, content)
    return path


def test_a_labels_cache_is_read_as_ultralytics_wrote_it(tmp_path: Path) -> None:
    label = {"im_file": "a.png", "shape": (4, 5), "cls": np.ones((2, 1), np.float32), "segments": [np.zeros((3, 2))]}
    label |= {"bboxes": np.eye(4, dtype=np.float32), "keypoints": None, "normalized": True, "bbox_format": "xywh"}
    said = {"labels": [label], "hash": "x", "results": (1, 0, np.int64(0), 0, 1), "msgs": [], "version": "1.0.3"}
    found = load_cache(cache_of(tmp_path / "labels.cache", said))
    np.testing.assert_equal(found, said)


@pytest.mark.parametrize("content", ["reduce", "array of objects", "numbers"])
def test_a_foreign_cache_runs_nothing(content: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    bad: dict[str, Any] = {
        "reduce": {"labels": Hostile(marker)},
        "array of objects": {"labels": np.array([Hostile(marker)], dtype=object)},
        "numbers": np.zeros(3),
    }
    path = cache_of(tmp_path / "labels.cache", bad[content])
    with pytest.raises(pickle.UnpicklingError):
        load_cache(path)
    assert not marker.exists()
    if content == "reduce":
        np.load(path, allow_pickle=True)
        assert marker.exists(), "the file is not hostile, so the test proves nothing"


def test_ultralytics_reads_and_replaces_a_hostile_cache_without_running_it(tiny: Path, tmp_path: Path) -> None:
    import shutil

    from objectives.ultralytics_door import quiet
    from search.evaluate import workload  # noqa: F401  which hardens whatever process imports it

    shutil.copytree(tiny / "data", tmp_path / "data")
    marker, cache = tmp_path / "ran", tmp_path / "data" / "labels" / "val.cache"
    cache_of(cache, {"labels": Hostile(marker)})
    from ultralytics.data.dataset import YOLODataset

    data = {"names": {0: "a", 1: "b"}, "nc": 2, "channels": 3}
    with quiet():
        dataset = YOLODataset(img_path=str(tmp_path / "data" / "images" / "val"), data=data, augment=False, imgsz=32)
    assert len(dataset) and not marker.exists()
    assert load_cache(cache)["labels"], "a cache of our own is in its place"


def test_a_download_key_never_runs_in_a_trainer_or_validator(tmp_path: Path) -> None:
    from ultralytics.engine import trainer, validator

    harden()
    marker = tmp_path / "ran"
    data = tmp_path / "data.yaml"
    data.write_text(f"path: {tmp_path}\ntrain: gone\nval: gone\nnames: [a]\ndownload: bash -c 'touch {marker}'\n")
    python = tmp_path / "python.yaml"
    python.write_text(f"path: {tmp_path}\ntrain: gone\nval: gone\nnames: [a]\ndownload: open({str(marker)!r}, 'w')\n")
    for module in (trainer, validator):
        for file in (data, python):
            with pytest.raises(FileNotFoundError, match="images not found"):
                module.check_det_dataset(str(file))
        with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
            module.check_cls_dataset(tmp_path / "imagenet", split="train")
    assert not marker.exists()


ASKED = """\
import json, os, sys
from multiprocessing.connection import wait
from pathlib import Path
from search.workers.child_process import Child
from said import said
from search.testing.known_front import PRELOAD

child = Child(said, (), log=Path("log"), error_path=Path("error.txt"), preload=PRELOAD)
while (answer := child.result()) is None:
    wait(child.waitables, 5)
print(json.dumps([answer, said()]))
"""
SAID = """\
import os

def said():
    return {name: os.environ.get(name) for name in ("YOLO_AUTOINSTALL", "YOLO_OFFLINE", "ULTRALYTICS_SAFE_LOAD")}
"""


def test_a_worker_installs_and_downloads_nothing_whatever_the_shell_says(tmp_path: Path) -> None:
    """In a process of its own: the fork server of this one began before a shell could have said anything."""
    (tmp_path / "said.py").write_text(SAID)
    (tmp_path / "asked.py").write_text(ASKED)
    paths = os.pathsep.join([str(Path(__file__).resolve().parents[3]), str(tmp_path)])
    shell = {**os.environ, "PYTHONPATH": paths, "YOLO_AUTOINSTALL": "true", "YOLO_OFFLINE": "false"}
    shell.pop("ULTRALYTICS_SAFE_LOAD", None)
    done = subprocess.run([sys.executable, "asked.py"], cwd=tmp_path, env=shell, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "ULTRALYTICS_SAFE_LOAD": "1"}
    assert json.loads(done.stdout) == [[True, expected], expected]


def test_a_data_yaml_has_an_end(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=r"large.yaml has 4,000,001 bytes"):
        read_data_yaml(large)


def test_a_billion_laughs_are_refused(tmp_path: Path) -> None:
    rows = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    (tmp_path / "bomb.yaml").write_text("\n".join(rows) + "\npath: *a11\n")
    with pytest.raises(ConfigError, match=r"bomb.yaml unfolds to"):
        read_data_yaml(tmp_path / "bomb.yaml")
    (tmp_path / "loop.yaml").write_text("a: &a [*a]\n")
    with pytest.raises(ConfigError, match="contains itself"):
        read_data_yaml(tmp_path / "loop.yaml")


def test_a_data_yaml_makes_no_objects(tmp_path: Path) -> None:
    marker, data = tmp_path / "ran", tmp_path / "data.yaml"
    data.write_text(f"path: !!python/object/apply:os.system ['touch {marker}']\n")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_data_yaml(data)
    with pytest.raises(ConfigError, match="is not YAML"):
        open_dataset(data, LabelRules())
    assert not marker.exists()


def test_aliases_that_unfold_to_little_are_fine(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: &n [a, b]\nalso: *n\n")
    assert read_data_yaml(tmp_path / "data.yaml") == {"names": ["a", "b"], "also": ["a", "b"]}


NAMES = ["..", ".", "../known", "a/b", "a\\b", "/tmp/x", "known\n", "", "-rf", "x" * 101, "a b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_cannot_leave_the_folder_of_runs(name: str, workplace: Path) -> None:
    with pytest.raises(ConfigError, match="a name is a folder"):
        load_spec(Path("study.yaml"), {"name": name})
    with pytest.raises(ConfigError, match=r"name is a folder|limits nothing"):
        load_spec(Path("study.yaml"), {"budgets": {name: {"latency_ms": 5}}})


@pytest.mark.parametrize(("model", "name"), [("...pt", "study"), (".. .pt", "study"), ("a b;c.pt", "a-b-c")])
def test_a_run_named_after_its_model_stays_where_it_belongs(model: str, name: str, workplace: Path) -> None:
    (workplace / model).write_bytes(b"weights")
    assert load_spec(None, {"model": model, "data": "data.yaml"}).run_name == name


def test_trust_is_recorded_and_leads_to_the_clean_copy(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.prepare import trusted_checkpoint

    digest = hashlib.sha256(Path("best.pt").read_bytes()).hexdigest()
    made: list[Path] = []

    def make(model: Path, digest: str, copy: Path) -> None:
        copy.parent.mkdir(parents=True, exist_ok=True)
        made.append(Path(copy.write_bytes(b"clean") and copy))

    monkeypatch.setattr(trusted_checkpoint, "_make", make)
    for _ in range(2):
        spec = trusted_checkpoint.with_clean_copy(load_spec(Path("study.yaml"), {"trust": digest}))
    assert spec.model == str((workplace / "runs" / "prune" / "trusted" / f"{digest}.pt").resolve())
    assert spec.resolved()["trust"] == digest and spec.run_name == "known" and len(made) == 1
    assert load_spec(None, {**spec.resolved()}).model == spec.model
    with pytest.raises(ConfigError, match=f"its sha256 is {digest}"):
        trusted_checkpoint.with_clean_copy(load_spec(Path("study.yaml"), {"trust": "0" * 64}))
    with pytest.raises(ConfigError, match="trust: string should match"):
        load_spec(Path("study.yaml"), {"trust": "yes"})
