"""Time as a dependency, so that a twelve-hour search is tested in a second."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock, and local time."""

    def now(self) -> float:
        """Return seconds since some fixed moment."""
        ...

    def local(self) -> datetime:
        """Return local date and time, without a zone."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now(self) -> float:
        return time.monotonic()

    def local(self) -> datetime:
        return datetime.now()
