from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from search.config import overrides
from search.config.inputs.checkpoint_facts import CheckpointFacts
from search.config.overrides import Data, File, InputSize, Order, Place, trained_size
from search.config.spec import load_spec
from search.errors import ConfigError


class Delivery(Order):
    """Keys that name paths."""

    example = "deliver base=best.pt"
    lacking = "{keys} are needed"

    base: File
    data: Data
    out: Place


class Fitting(Order):
    """A key that is a size, by default that of the file."""

    example = "fit model=best.pt"
    lacking = "{keys} are needed"

    model: Path
    imgsz: InputSize = Field(default_factory=trained_size)


@pytest.mark.parametrize("is_told", [True, False])
def test_a_release_that_knows_squares_alone_refuses_rectangles(
    is_told: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    noted = CheckpointFacts("detect", (384, 640))  # of a file that was pruned with a later release
    monkeypatch.setattr(overrides, "checkpoint_facts", lambda path: noted)
    keys = {"model": tmp_path / "best.pt"} | ({"imgsz": "384x640"} if is_told else {})
    assert Fitting.from_keys(keys).imgsz == (384, 640)
    monkeypatch.setattr(overrides, "installed", lambda: "8.4.175")
    with pytest.raises(ConfigError, match=r"384x640: Ultralytics 8\.4\.175 has no input sizes of two sides"):
        Fitting.from_keys(keys)
    assert Fitting.from_keys({**keys, "imgsz": 640}).imgsz == 640


@pytest.fixture
def home(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with files of that very name, and none in the working folder."""
    home = workplace / "home"
    home.mkdir()
    for name in ("best.pt", "data.yaml"):
        (workplace / name).rename(home / name)
    monkeypatch.setenv("HOME", str(home))
    return home


def test_a_tilde_is_the_home_folder_as_in_a_shell(home: Path) -> None:
    keys = {"base": "~/best.pt", "data": "~/data.yaml", "out": "~/runs/new"}
    found = Delivery.from_keys(keys)
    assert (found.base, found.data, found.out) == (home / "best.pt", home / "data.yaml", home / "runs" / "new")
    spec = load_spec(None, {"model": "~/best.pt", "data": "~/data.yaml", "project": "~/runs"})
    assert spec.project == str(home / "runs")


def test_a_folder_that_is_called_so_is_that_folder(home: Path, workplace: Path) -> None:
    (workplace / "~").mkdir()
    (workplace / "~" / "runs").mkdir()
    for project in ("~/runs", "~no-such-user/runs"):
        keys = {"model": "~/best.pt", "data": "~/data.yaml", "project": project}
        assert load_spec(None, keys).project == project


@pytest.mark.parametrize("key", [float("inf"), 5, None, 2.5, ("a", 1)])
def test_a_key_that_yaml_read_as_something_else_is_unknown(key: Any) -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        Delivery.from_keys({key: "best.pt", "data": "data.yaml"})
