from __future__ import annotations

import threading
from pathlib import Path

import pytest

from search.errors import RunLocked
from search.run_folder.lock import RunLock


def test_asking_refuses_nobody(tmp_path: Path) -> None:
    """Who asks whether a run is held shares its lock for an instant: a start at that instant is none too many."""
    path, ended, asked = tmp_path / "run.lock", threading.Event(), [0] * 4
    with RunLock(path):
        pass

    def ask(number: int) -> None:
        while not ended.is_set():
            RunLock(path).is_held()
            asked[number] += 1

    askers = [threading.Thread(target=ask, args=(number,)) for number in range(len(asked))]
    for asker in askers:
        asker.start()
    try:
        for _ in range(300):
            with RunLock(path):
                assert RunLock(path).is_held()
    finally:
        ended.set()
        for asker in askers:
            asker.join()
    assert all(asked)


def test_a_held_lock_refuses_at_once_and_names_its_owner(tmp_path: Path) -> None:
    with (
        RunLock(tmp_path / "run.lock"),
        pytest.raises(RunLocked, match="searched by pid"),
        RunLock(tmp_path / "run.lock"),
    ):
        pass
    assert not RunLock(tmp_path / "run.lock").is_held()
    assert not RunLock(tmp_path / "none.lock").is_held()
