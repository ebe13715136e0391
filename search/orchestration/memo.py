"""Cache of measured networks: equal networks are measured once.

Rounding to multiples of 8 makes many different ratios the same network; training it again would spend minutes on
measuring the noise of training.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Memo:
    """Key of a pruned network -> number of the trial that measured it."""

    _first: dict[str, int] = field(default_factory=dict)

    def find(self, key: str) -> int | None:
        """Return the trial that measured this network, if any."""
        return self._first.get(key)

    def add(self, key: str, number: int) -> None:
        """Record the first trial of a network; failed trials are not added, so that a copy may succeed."""
        self._first.setdefault(key, number)
