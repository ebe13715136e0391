"""Run a function in a child process and wait for it; foreseen errors keep their text and exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from search.config.inputs.user_modules import declared, use
from search.errors import ParetoPruneError
from search.trial import Failure, FailureKind
from search.workers.child_process import PRELOAD, Child
from search.workers.heartbeat import ActivityMonitor

_POLL_S = 0.25


class PreparationFailed(ParetoPruneError):
    """The base could not be traced or measured. `log`: path of the child's log, for unforeseen errors."""

    log: Path | None = None


@dataclass(frozen=True)
class Refusal:
    """A foreseen error of the child, sent over the pipe: its text and its exit code."""

    text: str
    code: int


def run_isolated(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: Path,
    while_waiting: Callable[[], None] = lambda: None,
    *,
    log_stays: bool = True,
    stuck_s: float = float("inf"),
) -> Any:
    """Call a function in a child and wait for it; its log is folder/prepare.log.

    Args:
        log_stays: False for a temporary folder: errors do not refer to its log.
        stuck_s: seconds without a heartbeat after which the child is killed, with its stacks in the log.

    Raises:
        PreparationFailed: the child crashed, or raised; foreseen errors keep their text and exit code.
    """
    log = folder / "prepare.log"
    log.unlink(missing_ok=True)
    child = Child(guarded, (function, arguments), log=log, error_path=folder / "error.txt", preload=PRELOAD)
    activity, waiting = ActivityMonitor(folder, time.monotonic()), WaitingLines(log)
    try:
        while (answer := child.result()) is None:
            while_waiting()
            waiting.show()
            wait(child.waitables, _POLL_S)
            if activity.silent_s(time.monotonic()) > stuck_s:
                child.dump_stacks()
                stuck: Any = Failure(FailureKind.STUCK, f"no sign of life for {stuck_s / 60:.3g} minutes")
                answer = (False, stuck)
                break
    finally:
        child.kill()
    returned, value = answer
    if returned and not isinstance(value, Refusal):
        return value
    text = value.text if returned else f"{value.kind.value}: {value.message}"
    shown = None if returned or not log_stays else log
    error = PreparationFailed(text, where=None if shown is None else str(shown))
    error.log = shown
    error.exit_code = value.code if returned else error.exit_code
    raise error


class WaitingLines:
    """Shows on stderr what a child says of waiting for another process (`timing.measurement_lock`), from its log."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read = 0

    def show(self) -> None:
        """Print the new whole lines that begin with `waiting`."""
        try:
            if self._log.stat().st_size == self._read:
                return
            with self._log.open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if line.startswith("waiting"):
                with suppress(OSError):  # a terminal that has just gone
                    print(line, file=sys.stderr, flush=True)


def guarded(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Return the function's value; a foreseen error is returned as a `Refusal`, because not every exception pickles."""
    from search.errors import exit_code, is_foreseen

    try:
        use(declared())
        return function(*arguments)
    except Exception as error:
        if is_foreseen(error):
            return Refusal(str(error), exit_code(error))
        raise
