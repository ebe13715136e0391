"""Waiting for something to happen, instead of for a time in which it should have."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT_S = 150.0
"""So much a busy machine may take; pytest ends a test after 600 s."""


def until(happened: Callable[[], object], what: str = "it did not happen", limit_s: float = LIMIT_S) -> None:
    """Look a hundred times a second; AssertionError with `what` after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Has this process ended? A zombie, which waits for its parent alone, has."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
