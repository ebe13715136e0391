"""Time as a dependency, so that a twelve-hour search is tested in a second."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Seconds that only grow, and what the clock on the wall shows."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        ...

    def local(self) -> datetime:
        """Local date and time, without a zone."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> float:
        return time.monotonic()

    def local(self) -> datetime:
        return datetime.now()
