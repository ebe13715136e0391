"""What surrounds one session of a search: signals, the log file, and the folder that must not stay half-made."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from search.errors import is_foreseen
from search.evaluate.prepare import PreparationFailed
from search.loop import Loop
from search.record import RunRecord

log = logging.getLogger("search")


@contextmanager
def interrupting(loop: Loop) -> Iterator[None]:
    """First SIGINT or SIGTERM: drop what runs, end cleanly. Second: at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if loop.interrupted:
            raise KeyboardInterrupt
        loop.interrupt()

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """The log of the search goes to a file, and nowhere else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
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


class Beginning:
    """The moment before a run has its first trial: what a search that never started had made goes away again.

    Create it before anything is written, call `undo` when the preparation failed.
    """

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._made = [path for path in (record.path, *record.path.parents) if not path.exists()]
        self._began = record.args_path.is_file()

    def undo(self, error: BaseException) -> None:
        """Remove the run folder; after a crash its logs stay, which alone are no run. Ctrl-C leaves what can go on."""
        if self._began or self._record.trials() or isinstance(error, KeyboardInterrupt):
            return
        for path in (self._record.args_path, self._record.path / "env.json"):
            path.unlink(missing_ok=True)
        if self._record.path in self._made and not _is_crash(error):
            shutil.rmtree(self._record.path, ignore_errors=True)
        for path in self._made[1:]:
            with suppress(OSError):  # something else is in it by now
                path.rmdir()


def _is_crash(error: BaseException) -> bool:
    """Whether the log is needed to understand what happened."""
    if isinstance(error, PreparationFailed):
        return error.log is not None
    return not is_foreseen(error)
