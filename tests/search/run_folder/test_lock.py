from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from search.errors import ConfigError, RunLocked
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


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_nobody_is_blamed(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc").is_dir() else None
    with pytest.raises(ConfigError, match="does not lock files: ") as refused, RunLock(tmp_path / "run.lock"):
        pass
    assert os.strerror(number) in str(refused.value) and str(tmp_path) in str(refused.value)
    assert not RunLock(tmp_path / "run.lock").is_held(), "what lies there can still be read"
    assert before is None or len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
def test_a_lock_that_cannot_be_signed_is_held_and_released(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with RunLock(tmp_path / "run.lock"):
        assert RunLock(tmp_path / "run.lock").is_held()
        assert RunLock(tmp_path / "run.lock").owner() == "another process"
    assert not RunLock(tmp_path / "run.lock").is_held()
