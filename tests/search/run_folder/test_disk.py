"""A full, read-only or failing disk: nothing starts without room, nothing is torn, and nobody has to come back."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from search.errors import DiskFailing, RunCorrupt, exit_code
from search.orchestration.loop import Progress
from search.propose.optuna_proposer import OptunaProposer
from search.run_folder import atomic
from search.run_folder.disk import LEAST_BYTES, DiskSpace, disk_errors
from search.run_folder.record import RunRecord
from search.run_folder.storage_errors import storage_errors
from search.study import Study
from search.testing.simulated import Cut
from tests.search.conftest import MakeStudy
from tests.search.hearing import Hearing

OPTIONS = {"search.trials": 6, "search.sampler": "tpe"}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.orchestration.loop._PAUSE_S", 0.01)


@pytest.fixture
def whole(make_study: MakeStudy, workplace: Path) -> list[Any]:
    """The trials of a search that nothing disturbed."""
    found = trials(make_study(**OPTIONS).search())
    shutil.rmtree(workplace / "runs")
    return found


def trials(study: Study) -> list[Any]:
    return [(one.number, one.candidate, one.measurement) for one in study.trials()]


def failing(error: OSError | Exception, calls: range, work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, of which the calls in `calls` (from 0) raise."""
    seen = -1

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen in calls:
            raise error
        return work(*args, **kwargs)

    return call


def test_room_is_for_the_base_several_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.run_folder.disk.free_bytes", lambda path: LEAST_BYTES + 799)
    assert DiskSpace(tmp_path, 99).missing() is None
    assert "a trial needs" in str(DiskSpace(tmp_path, 100).missing())
    monkeypatch.setattr("search.run_folder.disk.free_bytes", failing(OSError(errno.EIO, "?"), range(1), lambda path: 0))
    assert DiskSpace(tmp_path, 100).missing() is None, "who cannot look does not stop a search"


def test_no_trial_starts_without_room_and_the_search_goes_on_by_itself(
    make_study: MakeStudy, whole: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    free: Iterator[int] = iter([10**12, 10**12, *[10**6] * 5])
    monkeypatch.setattr("search.run_folder.disk.free_bytes", lambda path: next(free, 10**12))
    seen: list[tuple[str, int]] = []

    def watch(study: Study, progress: Progress) -> None:
        if progress.paused:
            seen.append((progress.paused, progress.done))

    study = make_study(**OPTIONS).search([Hearing(on_progress=watch)])
    assert trials(study) == whole
    assert len(seen) == 5 and {done for _, done in seen} == {2} and "1 MB free" in seen[0][0]
    log = (study.record.path / "search.log").read_text()
    assert log.count("paused: no room on the disk") == 1 and "resumed: disk space and storage are available" in log


def test_a_paused_search_can_be_stopped(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.errors import Interrupted

    monkeypatch.setattr("search.run_folder.disk.free_bytes", lambda path: 0)
    study = make_study(**OPTIONS)
    with pytest.raises(Interrupted):
        study.search([Hearing(on_progress=lambda study, progress: study.stop())])


WRITES = {
    "start": (RunRecord, "start_trial"),
    "tell": (OptunaProposer, "_tell"),
    "draw": (None, "search.study.write_snapshot"),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_write_that_finds_the_disk_full_waits(
    what: str, make_study: MakeStudy, whole: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = WRITES[what]
    full = OSError(errno.ENOSPC, "No space left on device")
    if owner is None:
        from search.results.snapshot import write_snapshot

        monkeypatch.setattr(name, failing(full, range(2, 5), write_snapshot))
    else:
        monkeypatch.setattr(owner, name, _method(failing(full, range(2, 5), getattr(owner, name))))
    study = make_study(**OPTIONS).search()
    assert trials(study) == whole and study.state() == "finished"


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)


def test_a_disk_that_fills_up_in_the_middle_of_an_ask_leaves_no_gap(
    make_study: MakeStudy, whole: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from optuna.trial import Trial as OptunaTrial

    cause = sqlite3.OperationalError("database or disk is full")
    error = RuntimeError("An exception is raised during the commit.")
    error.__cause__ = cause
    original = OptunaTrial._suggest
    monkeypatch.setattr(OptunaTrial, "_suggest", _method(failing(error, range(7, 8), original)))
    assert trials(make_study(**OPTIONS).search()) == whole


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_state_or_the_new(
    number: int, call: str, make_study: MakeStudy, whole: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        error = OSError(number, os.strerror(number))
        patch.setattr(atomic.os, call, failing(error, range(30, 10**6), getattr(os, call)))
        with pytest.raises(DiskFailing, match="the disk cannot be written") as caught:
            make_study(**OPTIONS).search()
    assert exit_code(caught.value) == 1 and "paretoprune resume" in str(caught.value)
    study = make_study(**OPTIONS).search()
    assert trials(study) == whole
    assert not list(study.record.path.rglob("*.part"))


def test_errors_that_are_not_the_disks_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "gone")


@pytest.mark.parametrize(
    ("sentence", "number"),
    [("database or disk is full", errno.ENOSPC), ("disk I/O error", errno.EIO), ("a readonly database", errno.EROFS)],
)
def test_what_sqlite_says_about_the_disk_is_understood(sentence: str, number: int) -> None:
    with pytest.raises(OSError) as caught, storage_errors():
        try:
            raise sqlite3.OperationalError(sentence)
        except sqlite3.OperationalError as error:
            raise RuntimeError("wrapped") from error
    assert caught.value.errno == number
    with pytest.raises(RunCorrupt), storage_errors():
        raise RuntimeError("database disk image is malformed")
    with pytest.raises(KeyError), storage_errors():
        raise KeyError("x")


_FULL = """\
import sys
from search.run_folder.atomic import write_atomic
from pathlib import Path
place = Path(sys.argv[1]) / "file"
write_atomic(place, b"old" * 1000)
try:
    write_atomic(place, b"new" * 10_000_000)
except OSError as error:
    print(error.errno, place.read_bytes() == b"old" * 1000, sorted(p.name for p in place.parent.iterdir()))
"""


def test_a_disk_that_is_really_full_keeps_the_old_file(tmp_path: Path) -> None:
    """On a file system of 4 MB of its own, where this user may mount one."""
    mounted = f"mount -t tmpfs -o size=4m tmpfs {tmp_path} && exec {sys.executable} -c '{_FULL}' {tmp_path}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted], capture_output=True, text=True, env=environment
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system of our own here: {done.stderr.strip().splitlines()[0]}")
    assert done.stdout == f"{errno.ENOSPC} True ['file']\n", done.stderr


def test_cut_is_not_swallowed(tmp_path: Path) -> None:
    with pytest.raises(Cut), disk_errors(tmp_path), storage_errors():
        raise Cut("power")
