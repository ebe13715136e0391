"""Sharing a machine: who times is alone, cores are shared, and a trial says where it stands."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from ultralytics.utils import torch_utils

from objectives.errors import LatencyError
from objectives.latency.measuring_lock import measuring_lock
from search.evaluate.timing import measurement_lock
from search.evaluate.timing.latency import LOCK_VARIABLE, lock_path
from search.evaluate.timing.measurement_lock import MeasurementLock, loaders_stopped
from search.evaluate.timing.progress import Phases, TrialProgress, discard_progress, read_progress
from search.evaluate.timing.threads import limit_threads, share_of_cores
from tests.waiting import LIMIT_S, until


def test_nobody_works_while_somebody_times(tmp_path: Path) -> None:
    gate, working, ended = tmp_path / "gate", [0, 0], threading.Event()

    def work(number: int) -> None:
        with MeasurementLock(gate) as turns:
            while not ended.is_set():
                working[number] += 1
                time.sleep(0.002)
                turns.pause()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    try:
        with MeasurementLock(gate) as turns:
            for _ in range(3):
                with turns.timing():
                    before = list(working)
                    time.sleep(0.05)
                    assert working == before
                until(lambda before=before: all(a > b for a, b in zip(working, before, strict=True)))
    finally:
        ended.set()
        for worker in workers:
            worker.join(LIMIT_S)


class _Slow(torch.utils.data.Dataset[int]):
    """Every item costs its loader some milliseconds of a processor."""

    def __len__(self) -> int:
        return 10**6

    def __getitem__(self, index: int) -> int:
        return sum(range(20_000)) + index


def test_the_loaders_of_who_waits_wait_too(tmp_path: Path) -> None:
    """The queue of a data loader is long: without a stop its processes work on for all that it holds."""
    gate, told, ended = tmp_path / "gate", threading.Event(), threading.Event()
    batches: Any = iter(torch.utils.data.DataLoader(_Slow(), batch_size=8, num_workers=2, prefetch_factor=500))
    next(batches)
    loaders = [psutil.Process(child.pid) for child in multiprocessing.active_children() if child.daemon]

    def train() -> None:
        with MeasurementLock(gate) as turns:
            told.set()
            while not ended.is_set():
                next(batches)
                turns.pause()

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        assert told.wait(LIMIT_S)
        with measuring_lock(gate):  # a MeasurementLock here would stop them too: they are of the same process
            until(lambda: all(loader.status() == psutil.STATUS_STOPPED for loader in loaders))
            before = _cpu_s(loaders)
            time.sleep(0.3)
            assert _cpu_s(loaders) == before
        until(lambda: _cpu_s(loaders) > before)
    finally:
        ended.set()
        trainer.join(LIMIT_S)
        batches._shutdown_workers()
    assert len(loaders) == 2 and not trainer.is_alive()


def _cpu_s(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def test_other_children_are_left_alone() -> None:
    """A coordinator's children are trials: one of them may be the one that times."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
    child.start()
    try:
        with loaders_stopped():
            assert psutil.Process(child.pid).status() != psutil.STATUS_STOPPED
    finally:
        child.kill()
        child.join()


def test_work_that_does_not_stop_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with MeasurementLock(tmp_path / "gate"), MeasurementLock(tmp_path / "gate", patience_s=0.1) as impatient:
        began = time.monotonic()
        with impatient.timing():
            assert time.monotonic() - began >= 0.1  # and it comes to an end: the others never pause


def test_a_measurement_that_fails_opens_the_gate(tmp_path: Path) -> None:
    with MeasurementLock(tmp_path / "gate") as turns:
        with pytest.raises(ZeroDivisionError), turns.timing():
            raise ZeroDivisionError
        with MeasurementLock(tmp_path / "gate") as other:
            other.pause()


def test_who_waits_says_for_whom_and_gives_signs_of_life(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement_lock, "SILENT_S", 0.05)
    signs: list[bool] = []
    monkeypatch.setattr(measurement_lock, "_give_sign", lambda: signs.append(True))
    freed = threading.Event()

    def hold() -> None:
        with measuring_lock(tmp_path / "gate", who="trial 3 of runs/prune/other"):
            freed.wait(LIMIT_S)

    holder = threading.Thread(target=hold)
    holder.start()
    until(lambda: (tmp_path / "gate").exists() and (tmp_path / "gate").read_bytes() != b"")
    threading.Timer(1.0, freed.set).start()
    shown: list[str] = []
    watcher = threading.Thread(
        target=lambda: until(lambda: bool(shown.append(read_progress(tmp_path).phase) or shown[-1]))
    )
    watcher.start()
    with MeasurementLock(tmp_path / "gate", work_dir=tmp_path):
        pass
    for thread in (holder, watcher):
        thread.join(LIMIT_S)
    assert "trial 3 of runs/prune/other" in shown[-1] and read_progress(tmp_path).phase == ""
    said = capfd.readouterr().err.splitlines()
    assert said == [f"waiting for a measurement on this machine (id {os.getpid()}, trial 3 of runs/prune/other)"]
    assert len(signs) >= 2


_FROZEN = """\
import signal, sys, time
from pathlib import Path
from search.evaluate.timing.measurement_lock import MeasurementLock
with MeasurementLock(Path(sys.argv[1]), who="a search") as turns, turns.timing():
    signal.raise_signal(signal.SIGSTOP)
"""


def test_who_waits_for_a_search_that_was_stopped_in_its_timing_says_how_it_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurement_lock, "SILENT_S", 0.05)
    with subprocess.Popen([sys.executable, "-c", _FROZEN, str(tmp_path / "gate")]) as holder:
        until(lambda: psutil.Process(holder.pid).status() == psutil.STATUS_STOPPED)
        threading.Timer(0.5, holder.send_signal, [signal.SIGCONT]).start()
        with MeasurementLock(tmp_path / "gate"):
            pass
        assert holder.wait(LIMIT_S) == 0
    (said,) = capfd.readouterr().err.splitlines()
    assert said.startswith(f"waiting for a measurement on this machine (id {holder.pid}, a search; it was stopped ")
    assert f"kill -CONT {holder.pid} " in said


def test_a_sign_of_life_is_a_change_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.touch()
    os.utime(log, (1, 1))
    with log.open("a") as file:
        code = "from search.evaluate.timing.measurement_lock import _give_sign; _give_sign()"
        subprocess.run([sys.executable, "-c", code], stderr=file, check=True)
    assert log.stat().st_mtime > 1


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "gate").symlink_to(tmp_path / "precious")
    with pytest.raises(LatencyError, match="no link"), MeasurementLock(tmp_path / "gate"):
        pass
    with pytest.raises(LatencyError, match="no link"), measuring_lock(tmp_path / "gate"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_the_lock_is_one_for_the_machine_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(LOCK_VARIABLE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert lock_path() == tmp_path / f"paretoprune-{os.getuid()}" / "measuring.lock"
    monkeypatch.setenv(LOCK_VARIABLE, "/elsewhere/lock")
    assert lock_path() == Path("/elsewhere/lock")


def test_trials_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert [share_of_cores(workers) for workers in (1, 2, 3, 20)] == [8, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert [share_of_cores(workers) for workers in (1, 2)] == [4, 2]


def test_ultralytics_does_not_take_the_other_cores_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(torch_utils, "NUM_THREADS", 6)
    try:
        torch.set_num_threads(6)
        limit_threads(2)
        assert torch.get_num_threads() == 2
        torch_utils.select_device("cpu", verbose=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_trial_says_where_it_stands_and_how_long_it_will_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, pauses = [0.0], []
    monkeypatch.setattr("search.evaluate.timing.progress.time.perf_counter", lambda: now[0])
    phase = Phases(tmp_path, lambda: pauses.append(now[0]))
    assert read_progress(tmp_path) == TrialProgress()
    with phase("export"):
        assert read_progress(tmp_path) == TrialProgress("export", None)
        now[0] = 2.0
    with phase("recover"):
        now[0] = 10.0  # eight seconds of setting up
        phase.advance(0.1)
        assert read_progress(tmp_path) == TrialProgress("recover 10 %", None)
        now[0] = 12.0
        phase.advance(0.3)
        assert read_progress(tmp_path) == TrialProgress("recover 30 %", pytest.approx(2 + 10 + 7))
        now[0] = 19.0
    assert phase.seconds == {"export": 2.0, "recover": 17.0}
    assert pauses == [0.0, 2.0, 10.0, 12.0]
    discard_progress(tmp_path)
    assert read_progress(tmp_path) == TrialProgress()
