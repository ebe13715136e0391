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
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from objectives.latency.measuring_lock import holder_of, measuring_lock, open_lock
from search.evaluate.timing.progress import show_waiting

SILENT_S = 2.0
"""After that long it is said who is waited for, and again once a minute."""
_AGAIN_S = 60.0
PATIENCE_S = 120.0
"""After that long the measurement starts beside the work that did not stop; it then flags the foreign load."""
_POLL_S = 0.02
_SLOWEST_POLL_S = 0.25
"""Who waits disturbs a measurement by looking too often."""


class MeasurementLock:
    """Context manager of one process: inside, it holds the shared lock.

    Args:
        path: the measuring lock of this user on this machine; the readers' is a file beside it.
        who: what this process does, for those who wait; the command and its folder by default.
        work_dir: folder of the work, whose progress says who is waited for (`timing.progress`).

    While it waits the process gives signs of life, and after two seconds it says who is waited for: on stderr, and in
    the progress of the work, which whoever follows a search sees.
    """

    def __init__(self, path: Path, patience_s: float = PATIENCE_S, who: str = "", work_dir: Path | None = None) -> None:
        self._writer_path, self._readers_path = path, path.with_suffix(".floor.lock")
        self._patience_s = patience_s
        self._who = who or f"{_command()}, in {Path.cwd()}"
        self._work_dir = work_dir
        self._said_at = 0.0
        self._is_shown = False
        self._writer = self._readers = -1

    def __enter__(self) -> MeasurementLock:
        self._writer, self._readers = (open_lock(path) for path in (self._writer_path, self._readers_path))
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
            with measuring_lock(self._writer_path, who=self._who, waiting=self._wait), loaders_stopped():
                self._wait_for_the_others()
                self._go_on()
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
        self._share_writer()
        try:
            fcntl.flock(self._readers, fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._writer, fcntl.LOCK_UN)
        self._go_on()

    def _share_writer(self) -> None:
        begin, pause_s = time.monotonic(), _POLL_S
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(self._writer, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            self._wait(time.monotonic() - begin)
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _SLOWEST_POLL_S)

    def _wait(self, seconds: float) -> None:
        self._tell(seconds, f"waiting for a measurement on this machine ({holder_of(self._writer)})")

    def _wait_for_the_others(self) -> None:
        begin = time.monotonic()
        while (seconds := time.monotonic() - begin) < self._patience_s:
            with suppress(BlockingIOError):
                fcntl.flock(self._readers, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(self._readers, fcntl.LOCK_UN)
                return
            limit = f"at most {self._patience_s:.0f} s"
            self._tell(seconds, f"waiting, {limit}, until other work of yours on this machine pauses for a measurement")
            time.sleep(_POLL_S)

    def _tell(self, seconds: float, text: str) -> None:
        _give_sign()
        if seconds < SILENT_S:
            self._said_at = SILENT_S
        elif seconds >= self._said_at:
            self._said_at = seconds + _AGAIN_S
            with suppress(OSError):  # a terminal that has just gone
                print(text, file=sys.stderr, flush=True)
            if self._work_dir is not None:
                show_waiting(self._work_dir, text)
                self._is_shown = True

    def _go_on(self) -> None:
        """Show no more that it waits."""
        if self._is_shown and self._work_dir is not None:
            show_waiting(self._work_dir, "")
            self._is_shown = False


def _command() -> str:
    own = multiprocessing.current_process()
    if own.name != "MainProcess":
        return f"{own.name} of process {os.getppid()}"
    return " ".join([Path(sys.argv[0]).name, *(word for word in sys.argv[1:] if "://" not in word)])[:200]


def _give_sign() -> None:
    """Touch the log that stderr of a trial is: a trial that waits is not stuck (`search.workers.heartbeat`)."""
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(2).st_mode):
            os.utime(2)


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
