"""Timing and work take turns on a machine: while one process times a model, no other trains, calibrates or validates.

Two locked files (flock, so that a process that dies gives way):

    gate    held alone by whoever times; a worker passes through it before every piece of work
    floor   shared by all who work; held alone for an instant by whoever times, which waits until all have stopped

A worker stands on the floor except while it waits at the gate. Whoever times leaves the floor, shuts the gate, and
waits until the floor is empty: those who work stop at their next `pause`, which is one training step away, and so do
their data loaders.
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


class Turnstile:
    """Context manager of one process: inside, it is on the floor.

    Args:
        gate: the measuring lock of this user on this machine; the floor is a file beside it.
    """

    def __init__(self, gate: Path, patience_s: float = PATIENCE_S) -> None:
        self._gate_path, self._floor_path = gate, gate.with_suffix(".floor.lock")
        self._patience_s = patience_s
        self._gate = self._floor = -1

    def __enter__(self) -> Turnstile:
        self._gate, self._floor = (_open(path) for path in (self._gate_path, self._floor_path))
        self._enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in (self._gate, self._floor):
            os.close(handle)

    def pause(self) -> None:
        """Let somebody time, if anybody wants to; costs two system calls where nobody does. The data loaders of this
        process wait too."""
        if self._gate_is_open():
            return
        with loaders_stopped():
            fcntl.flock(self._floor, fcntl.LOCK_UN)
            self._enter()

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Alone on this machine, as far as trials of this user are concerned."""
        fcntl.flock(self._floor, fcntl.LOCK_UN)
        try:
            with measuring_lock(self._gate_path), loaders_stopped():
                self._wait_for_the_others()
                yield
        finally:
            self._enter()

    def _gate_is_open(self) -> bool:
        try:
            fcntl.flock(self._gate, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        return True

    def _enter(self) -> None:
        fcntl.flock(self._gate, fcntl.LOCK_SH)
        try:
            fcntl.flock(self._floor, fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def _wait_for_the_others(self) -> None:
        end = time.monotonic() + self._patience_s
        while time.monotonic() < end:
            with suppress(BlockingIOError):
                fcntl.flock(self._floor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(self._floor, fcntl.LOCK_UN)
                return
            time.sleep(_POLL_S)


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


@contextmanager
def loaders_stopped() -> Iterator[None]:
    """Inside, the daemon processes that this process started (data loaders are such) are stopped by SIGSTOP.

    Other children, for example the trials of a coordinator, are left alone. Whoever kills the process group of a trial
    kills stopped processes too.
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
