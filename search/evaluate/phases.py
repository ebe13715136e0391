"""Where a trial stands and what each part of it costs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_FILE = "progress.json"


@dataclass
class Phases:
    """Times the phases of a trial and leaves progress.json in its folder.

    Args:
        names: the phases to come, in order; `fraction` counts those that are done.
    """

    work_dir: Path
    names: Sequence[str]
    seconds: dict[str, float] = field(default_factory=dict)
    _current: str = ""

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time one phase; a phase entered twice adds up."""
        self._write(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def advance(self, share: float) -> None:
        """How much of the phase that runs is done, 0 to 1."""
        self._write(self._current, share)

    def _write(self, name: str, share: float = 0.0) -> None:
        """A plain rename without fsync: this file is for the eye only."""
        self._current = name
        fraction = (len(self.seconds) + share) / max(len(self.names), 1)
        part = self.work_dir / f".{_FILE}.part"
        with suppress(OSError):
            part.write_text(json.dumps({"phase": name, "share": round(share, 3), "fraction": round(fraction, 3)}))
            part.replace(self.work_dir / _FILE)


def read_phase(work_dir: Path) -> str:
    """The phase that a trial is in, with its share where known: `recover 40 %`; empty when it has not said so."""
    try:
        found = json.loads((work_dir / _FILE).read_text())
        share = f" {100 * found['share']:.0f} %" if found["share"] else ""
        return f"{found['phase']}{share}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
