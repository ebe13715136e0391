"""Machine-wide readers-writer lock: training and validation share it, latency measurement is exclusive.

Two locked files (flock, released by the kernel when a process dies):

    writer    held by the measuring process; workers acquire and release it before every piece of work
    readers   shared by all workers; the measuring process acquires it exclusively, once, to wait until all have paused

A worker holds the readers' lock except while it waits for the writer's. To measure, a process releases its share of the
readers' lock, takes the writer's, and waits for the readers': workers stop at their next `pause`, at most one training
step later, together with their data loaders.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from objectives.latency.measuring_lock import measuring_lock

PATIENCE_S = 120.0
"""After that long the measurement starts beside the work that did not stop; it then flags the foreign load."""
_POLL_S = 0.02


class MeasurementLock:
    """Context manager of one process: inside, it holds the shared lock.

    Args:
        path: the measuring lock of this user on this machine; the readers' is a file beside it.
    """

    def __init__(self, path: Path, patience_s: float = PATIENCE_S) -> None:
        self._writer_path, self._readers_path = path, path.with_suffix(".floor.lock")
        self._patience_s = patience_s
        self._writer = self._readers = -1

    def __enter__(self) -> MeasurementLock:
        self._writer, self._readers = (_open(path) for path in (self._writer_path, self._readers_path))
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in (self._writer, self._readers):
            os.close(handle)

    def pause(self) -> None:
        """Yield to a waiting measurement, together with this process's data loaders. Two system calls if none waits."""
        if self._is_free():
            return
        with loaders_stopped():
            fcntl.flock(self._readers, fcntl.LOCK_UN)
            self._enter()

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Hold the lock exclusively among the trials of this user on this machine."""
        fcntl.flock(self._readers, fcntl.LOCK_UN)
        try:
            with measuring_lock(self._writer_path), loaders_stopped():
                self._wait_for_the_others()
                yield
        finally:
            self._enter()

    def _is_free(self) -> bool:
        try:
            fcntl.flock(self._writer, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._writer, fcntl.LOCK_UN)
        return True

    def _enter(self) -> None:
        fcntl.flock(self._writer, fcntl.LOCK_SH)
        try:
            fcntl.flock(self._readers, fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._writer, fcntl.LOCK_UN)

    def _wait_for_the_others(self) -> None:
        end = time.monotonic() + self._patience_s
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                fcntl.flock(self._readers, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(self._readers, fcntl.LOCK_UN)
                return
            time.sleep(_POLL_S)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


@contextmanager
def loaders_stopped() -> Iterator[None]:
    """Stop the daemon processes that this process started (e.g. data loaders) by SIGSTOP while inside.

    Other children, such as the trials of a coordinator, are left alone. Killing a trial's process group kills stopped
    processes too.
    """
    loaders = [child.pid for child in multiprocessing.active_children() if child.daemon and child.pid]
    _send(loaders, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(loaders, signal.SIGCONT)


def _send(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # it ended in between
            os.kill(process, number)
