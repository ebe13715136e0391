"""One session of a search: signals, the log file, and cleanup of a folder whose preparation failed."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from search.errors import Interrupted, is_foreseen
from search.orchestration.loop import Loop
from search.run_folder.record import RunRecord
from search.workers.run_isolated import PreparationFailed

log = logging.getLogger("search")


@contextmanager
def interrupting(loop: Loop) -> Iterator[None]:
    """Handle SIGINT and SIGTERM: the first drops running trials and ends cleanly, the second exits at once."""

    def handle(number: int, frame: FrameType | None) -> None:
        if loop.interrupted:
            raise KeyboardInterrupt
        loop.interrupt()

    with _handling({signal.SIGINT: handle, signal.SIGTERM: handle}):
        yield


@contextmanager
def resumable(record: RunRecord) -> Iterator[None]:
    """Translate Ctrl-C and SIGTERM at any moment of a search, its preparation included.

    Raises:
        Interrupted: with the command that goes on.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        with _handling({signal.SIGTERM: handle}):
            yield
    except KeyboardInterrupt:
        again = f"paretoprune resume {record.path}" if record.args_path.is_file() else "run the same command again"
        raise Interrupted("interrupted; what was measured so far is kept", next_command=again) from None


@contextmanager
def surviving_hangup() -> Iterator[None]:
    """On SIGHUP, redirect the standard streams to /dev/null and keep running."""
    terminals = [stream for stream in (0, 1, 2) if os.isatty(stream)]  # cannot be told after the hangup

    def handle(number: int, frame: FrameType | None) -> None:
        log.warning("the terminal is gone; the search continues")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in terminals:
            os.dup2(nowhere, stream)
        os.close(nowhere)

    is_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # nohup has seen to it
    with _handling({} if is_ignored else {signal.SIGHUP: handle}):
        yield


@contextmanager
def _handling(handlers: Mapping[signal.Signals, Callable[[int, FrameType | None], None]]) -> Iterator[None]:
    """Install signal handlers while inside; a no-op outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send the search's log to a file only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _LogFile(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
        handler.close()


class _LogFile(logging.FileHandler):
    """A log handler that ignores write errors, such as those of a full disk."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop a line that could not be written."""


class StartCleanup:
    """Removes the files of a search that fails before its first trial.

    Create it before anything is written, call `undo` when the preparation failed.
    """

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._made = [path for path in (record.path, *record.path.parents) if not path.exists()]
        self._began = record.args_path.is_file()

    def undo(self, error: BaseException) -> None:
        """Remove the run folder; after a crash keep its logs, after Ctrl-C or a stop whatever can be resumed."""
        if self._began or self._record.trials() or isinstance(error, KeyboardInterrupt | Interrupted):
            return
        for path in (self._record.args_path, self._record.path / "env.json"):
            path.unlink(missing_ok=True)
        if self._record.path in self._made and not _is_crash(error):
            shutil.rmtree(self._record.path, ignore_errors=True)
        for path in self._made[1:]:
            with suppress(OSError):  # something else is in it by now
                path.rmdir()


def _is_crash(error: BaseException) -> bool:
    """Return whether the log is needed to understand the error."""
    if isinstance(error, PreparationFailed):
        return error.log is not None
    return not is_foreseen(error)
