"""Crash points: named moments at which a test, or `benchmarks/soak.py`, simulates a power cut.

Each moment between two writes of a study has a name here, and the code calls `reached(name)`, which does nothing in
normal runs. Two ways to crash:

    arm(handler)                   in this process: a test raises `search.testing.simulated.Cut`
    PARETOPRUNE_CRASH_AT=name:3:f  kill -9 at the third time that a process passes the point; once per file `f`, which
                                   the killed process creates, so that the resumed one survives
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

VARIABLE = "PARETOPRUNE_CRASH_AT"

COORDINATOR = {
    "claimed": "args.yaml is written, nothing is prepared",
    "prepared": "the base is measured, study.db is not open yet",
    "asked": "study.db has the number and its parameters, trials/N is not there",
    "started": "trials/N/candidate.json is written, no worker has it",
    "submitted": "a worker has the trial",
    "ended": "the worker has ended, the coordinator has not looked at its result",
    "recorded": "result.json is on disk, study.db does not know it",
    "told": "study.db has the result, nothing derived was drawn",
    "drawn": "snapshot.json and the tables are written, no weights were deleted",
    "discarded": "weights off the front are deleted",
    "closing": "the trials are done, the last steps are not",
}
WORKER = {
    "worker.begun": "the worker's first line",
    "worker.measured": "everything is measured, result.json is not written",
    "worker.written": "result.json is written, the coordinator was not told",
}
ANYWHERE = {
    "file.part": "a file is written beside its place",
    "file.renamed": "a file is in its place, its folder is not synced",
}
POINTS = {**COORDINATOR, **WORKER, **ANYWHERE}

_handler: Callable[[str], None] | None = None


def reached(name: str) -> None:
    """Pass a crash point."""
    if _handler is not None:
        _handler(name)


def arm(handler: Callable[[str], None] | None) -> None:
    """Call `handler` at every crash point from now on; None disables it."""
    global _handler
    _handler = handler


def killer(said: str) -> Callable[[str], None]:
    """Return the handler of `name:count:file`. Raises ValueError for anything else."""
    name, count, token = said.split(":", 2)
    if name not in POINTS:
        raise ValueError(f"{VARIABLE}: no crash point {name!r}; known: {', '.join(POINTS)}")
    left = int(count)

    def handle(passed: str) -> None:
        nonlocal left
        left -= passed == name
        if passed == name and left <= 0 and _first(Path(token)):
            os.kill(os.getpid(), signal.SIGKILL)

    return handle


def _first(token: Path) -> bool:
    """Create the token; return whether it did not exist."""
    try:
        os.close(os.open(token, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


if os.environ.get(VARIABLE):
    arm(killer(os.environ[VARIABLE]))
