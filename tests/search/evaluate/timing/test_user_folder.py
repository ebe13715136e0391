from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from search.errors import ConfigError
from search.evaluate.timing.user_folder import user_folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"paretoprune-{os.getuid()}"


def test_it_is_made_for_its_user_alone(place: Path) -> None:
    assert user_folder() == place == user_folder()
    assert place.stat().st_mode & 0o777 == 0o700


def test_jobs_with_and_without_a_login_share_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place.parent))
    assert user_folder() == place


def test_what_others_could_have_made_is_refused(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="only you can enter"):
        user_folder()
    place.unlink()
    place.mkdir(mode=0o700)
    place.chmod(0o777)
    with pytest.raises(ConfigError, match="chmod 700"):
        user_folder()
    place.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: place.stat().st_uid)
    assert user_folder() == place


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    (tmp_path / "paretoprune-4711").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="only you can enter"):
        user_folder()
