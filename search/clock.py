"""Time as a dependency, so that a twelve-hour search is tested in a second."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds that only grow."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...


class SystemClock:
    """The monotonic clock of this machine."""

    def now(self) -> float:
        return time.monotonic()
