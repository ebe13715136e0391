"""Modules of the user's own inside a YOLO: the study names their file, processes that load the network execute it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pruning.checkpoints.checkpoint import load_model, save_model
from pruning.errors import CheckpointError
from search.commands.prune.one_shot import OneShotPruning, prune_once
from search.config.comparability import fingerprint
from search.config.inputs import user_modules
from search.config.spec import load_spec
from search.errors import ConfigError
from search.study import Study
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data

CODE = """
from torch import nn


class Squeeze(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x):
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a YOLO whose first block ends in a module of the user's own; this process has not heard of it."""
    monkeypatch.setattr(user_modules, "_declared", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "squeezes.py").write_text(CODE)
    user_modules.use([str(tmp_path / "squeezes.py")])
    model: Any = zoo.for_tiny_data("yolov8n.yaml")
    block = model.model[2].cv2
    block.act = nn.Sequential(nn.SiLU(), sys.modules["squeezes"].Squeeze(block.conv.out_channels))
    save_model(model, tmp_path / "own.pt")
    _forget()
    user_modules._declared.clear()
    yield tmp_path
    _forget()


def _forget() -> None:
    sys.modules.pop("squeezes", None)
    safe = [one for one in torch.serialization.get_safe_globals() if "squeezes" not in str(one)]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(safe)


def test_an_object_with_such_modules_is_a_study_of_its_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    data, file = make_tiny_data(place / "data"), str(place / "squeezes.py")
    user_modules.use([file])
    loaded = SimpleNamespace(model=load_model(place / "own.pt"), ckpt_path="own.pt", predict=None)
    _forget()
    assert Study(model=loaded, data=data, modules="squeezes.py").spec.model == str(place / "own.pt")
    assert user_modules.declared() == (file,)
    _forget()
    (place / "elsewhere").mkdir()
    written = place / "elsewhere" / "study.yaml"
    written.write_text(f"model: none.pt\ndata: {data}\nmodules: ../squeezes.py\n")
    assert Study(written, model=loaded).spec.model == str(place / "own.pt")


def test_without_the_file_the_checkpoint_is_refused(place: Path) -> None:
    with pytest.raises(CheckpointError, match=r"loaded safely.*modules=FILE\.py"):
        load_model(place / "own.pt")


def test_a_study_that_names_the_file_runs_it_where_networks_are_loaded(place: Path) -> None:
    (place / "study.yaml").write_text(f"model: own.pt\ndata: {make_tiny_data(place / 'data')}\nmodules: squeezes.py\n")
    spec = load_spec(place / "study.yaml")
    assert spec.modules == str(place / "squeezes.py") and "squeezes" not in sys.modules
    assert user_modules.declared() == (str(place / "squeezes.py"),)
    before = fingerprint(spec)["modules"]
    (place / "squeezes.py").write_text(CODE + "\n# changed\n")
    assert fingerprint(spec)["modules"] != before


def test_a_command_prunes_such_a_network_in_a_process_of_its_own(place: Path) -> None:
    keys = {"model": str(place / "own.pt"), "ratio": 0.4, "imgsz": 64, "modules": str(place / "squeezes.py")}
    facts = prune_once(OneShotPruning.from_keys({**keys, "out": str(place / "out")}))
    assert facts["params_m"]["after"] < facts["params_m"]["before"] and "squeezes" not in sys.modules
    user_modules.use(user_modules.declared())
    small: Any = load_model(facts["model"])
    assert type(small.model[2].cv2.act[1]).__name__ == "Squeeze"
    with torch.no_grad():
        small(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("broken.py", "import nothing_of_this_name", "raised ModuleNotFoundError"),
        ("json.py", "", "has the name of another module"),
        ("gone.py", None, "no such file"),
        ("my.blocks.py", "", r"my\.blocks\.py cannot be imported"),
        ("2blocks.py", "", "cannot be imported"),
        ("class.py", "", "cannot be imported"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(name: str, text: str | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said):
        user_modules.use([str(tmp_path / name)])


@pytest.mark.parametrize("is_imported", [False, True])
def test_a_file_that_python_finds_through_a_link_is_that_file(
    is_imported: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HOME may be a link, and a folder below it on PYTHONPATH; the study's own path is followed to its end."""
    monkeypatch.setattr(user_modules, "_declared", {})
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    file = tmp_path / "disk" / "squeezes.py"
    file.write_text(CODE)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "home"), *sys.path])
    try:
        before = import_module("squeezes") if is_imported else None
        user_modules.use([str(file)])
        user_modules.use([str(tmp_path / "home" / "squeezes.py")])
        assert before is None or sys.modules["squeezes"] is before
        with pytest.raises(ConfigError, match="has the name of another module"):
            (tmp_path / "squeezes.py").write_text(CODE)
            user_modules.use([str(tmp_path / "squeezes.py")])
    finally:
        _forget()


@pytest.mark.parametrize("name", ["my.blocks.py", "2blocks.py"])
def test_a_name_that_cannot_be_imported_is_refused_with_the_study(name: str, workplace: Path) -> None:
    (workplace / name).touch()
    for refused in (
        lambda: load_spec(workplace / "study.yaml", {"modules": name}),
        lambda: OneShotPruning.from_keys({"model": "best.pt", "ratio": 0.4, "modules": name}),
    ):
        with pytest.raises(ConfigError, match=f"{name} cannot be imported"):
            refused()
