from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.config.overrides import Data, File, Order, Place
from search.config.spec import load_spec
from search.errors import ConfigError


class Delivery(Order):
    """Keys that name paths."""

    example = "deliver base=best.pt"
    lacking = "{keys} are needed"

    base: File
    data: Data
    out: Place


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
