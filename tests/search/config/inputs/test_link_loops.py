from __future__ import annotations

from pathlib import Path

import pytest

from search.config.inputs import link_loops
from search.config.inputs.link_loops import refuse_link_loops, shown
from search.errors import ConfigError


@pytest.mark.parametrize("place", ["images", "images/deep/deeper"])
def test_links_to_a_folder_above_are_refused_by_name(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        (folder / name).symlink_to("..")
    with pytest.raises(ConfigError, match=r"(one|two) is a link to a folder that holds it") as refused:
        refuse_link_loops(tmp_path)
    assert "rm " in str(refused.value)


def test_two_folders_that_link_to_each_other_are_refused(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "other").symlink_to(tmp_path / other)
    with pytest.raises(ConfigError, match="holds it"):
        refuse_link_loops(tmp_path / "a")


def test_links_that_unfold_to_billions_of_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_loops, "MOST_FOLDERS", 1000)
    for number in range(40):
        (tmp_path / str(number)).mkdir()
        for name in ("left", "right"):
            (tmp_path / str(number) / name).symlink_to(tmp_path / str(number + 1))
    with pytest.raises(ConfigError, match="more than 1,000 folders"):
        refuse_link_loops(tmp_path / "0")


def test_what_has_no_circle_is_fine(tmp_path: Path) -> None:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "file.png").touch()
    (tmp_path / "images" / "itself").symlink_to("itself")
    (tmp_path / "images" / "nothing").symlink_to("gone")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    refuse_link_loops(tmp_path / "images")
    refuse_link_loops(tmp_path / "gone")
    refuse_link_loops(tmp_path / "images" / "file.png")


def test_a_name_that_is_no_utf_8_can_be_shown() -> None:
    assert shown(b"caf\xe9.png".decode("utf-8", "surrogateescape")) == "caf\\xe9.png"
