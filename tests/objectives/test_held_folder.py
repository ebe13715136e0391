from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from objectives.held_folder import PREFIX, held_folder, make_held_folder, release, remove_abandoned


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _aged(folder: Path) -> Path:
    os.utime(folder, (1, 1))
    return folder


def test_it_is_removed_by_its_owner() -> None:
    with held_folder("timing") as folder:
        (folder / "model.onnx").touch()
        assert folder.name.startswith(f"{PREFIX}timing-")
    assert not folder.exists()


def test_a_living_owner_keeps_it() -> None:
    folder = _aged(make_held_folder("timing"))
    remove_abandoned()
    assert folder.exists()
    release(folder)


def test_what_a_killed_process_left_is_removed(place: Path) -> None:
    code = (
        "import os, signal; from objectives.held_folder import make_held_folder as m; f = m('timing')\n"
        "(f / 'model.onnx').touch(); print(f, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "TMPDIR": str(place)}
    left = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    folder = Path(left.stdout.strip())
    assert (folder / "model.onnx").exists()
    remove_abandoned()
    assert folder.exists(), "it is young: its owner may be about to lock it"
    _aged(folder)
    remove_abandoned()
    assert not folder.exists()


def test_another_parent_is_cleaned_as_the_temporary_folder_is(place: Path) -> None:
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    folder = _aged(make_held_folder("processes", elsewhere))
    assert folder.parent == elsewhere
    abandoned = elsewhere / f"{PREFIX}processes-dead"
    abandoned.mkdir()
    _aged(abandoned)
    remove_abandoned(elsewhere)
    assert folder.exists() and not abandoned.exists()
    release(folder)


def test_links_files_and_folders_of_others_are_left_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "precious").mkdir()
    (place / f"{PREFIX}link").symlink_to(_aged(place / "precious"))
    (place / f"{PREFIX}file").touch()
    _aged(place / f"{PREFIX}file")
    (place / f"{PREFIX}other").mkdir()
    _aged(place / f"{PREFIX}other")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    remove_abandoned()
    assert len(list(place.iterdir())) == 4
