"""Heartbeat of a trial: changes of its progress.json or its log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SIGNS = ("progress.json", "train.log", "prepare.log")


@dataclass
class ActivityMonitor:
    """Detects changes in a trial's folder.

    Only changes count, timed by the caller's clock, so that steps of the system clock do not matter.

    Args:
        since: the caller's clock when the trial began.
    """

    folder: Path
    since: float
    _seen: tuple[int, ...] = (0,) * len(_SIGNS)

    def silent_s(self, now: float) -> float:
        """Return the seconds since the last heartbeat; `now` by the caller's clock."""
        seen = tuple(_changed(self.folder / name) for name in _SIGNS)
        if seen != self._seen:
            self._seen, self.since = seen, now
        return now - self.since


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
