"""Progress of a trial and the duration of its phases."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_FILE = "progress.json"
_WAITING = "waiting.txt"
_BEAT_S = 1.0
_ENOUGH = 0.05
"""Share of a phase after which its pace says how long it takes."""


@dataclass
class Phases:
    """Times the phases of a trial and writes progress.json to its folder.

    Args:
        pause: called at every start or progress of a phase: the moments at which the trial can wait for others.
    """

    work_dir: Path
    pause: Callable[[], None] = lambda: None
    seconds: dict[str, float] = field(default_factory=dict)
    _current: str = ""
    _since: float = 0.0
    _first: tuple[float, float] | None = None
    _expected_s: float | None = None
    _beaten: float = 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time one phase; repeated phases add up."""
        self._current, self._since, self._first = name, time.perf_counter(), None
        self._tell()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - self._since

    def advance(self, share: float) -> None:
        """Report the completed share of the current phase, 0 to 1."""
        self._tell(share)

    def beat(self) -> None:
        """Send a heartbeat: touch progress.json and yield to a pending latency measurement."""
        self.pause()
        if (now := time.perf_counter()) - self._beaten >= _BEAT_S:
            self._beaten = now
            with suppress(OSError):
                os.utime(self.work_dir / _FILE)

    def _tell(self, share: float = 0.0) -> None:
        """Write progress.json by a plain rename without fsync: it is for display only."""
        self.pause()
        self._expect(share, time.perf_counter())
        said = {"phase": self._current, "share": round(share, 3), "expected_s": self._expected_s, "pid": os.getpid()}
        part = self.work_dir / f".{_FILE}.part"
        with suppress(OSError):
            part.write_text(json.dumps(said))
            part.replace(self.work_dir / _FILE)

    def _expect(self, share: float, now: float) -> None:
        """Extrapolate from the pace since the first reported share, which excludes the setup before it."""
        if not share:
            return
        self._first = self._first or (share, now)
        begun, at = self._first
        if share - begun >= _ENOUGH:
            rest = (now - at) * (1 - share) / (share - begun)
            self._expected_s = sum(self.seconds.values()) + now - self._since + rest


@dataclass(frozen=True)
class TrialProgress:
    """Progress of a trial.

    Attributes:
        phase: with its share if known: `recover 40 %`; empty before the first report. What it waits for, while it does.
        expected_s: predicted seconds of the trial, from the pace of its longest phase; None before that began.
    """

    phase: str = ""
    expected_s: float | None = None


def read_progress(work_dir: Path) -> TrialProgress:
    """Read a trial's latest progress."""
    said = _reported(work_dir)
    with suppress(OSError):
        return TrialProgress((work_dir / _WAITING).read_text(), said.expected_s)
    return said


def show_waiting(work_dir: Path, text: str) -> None:
    """Say what work in this folder waits for, until `show_waiting(work_dir, "")`."""
    with suppress(OSError):
        if text:
            (work_dir / _WAITING).write_text(text)
        else:
            (work_dir / _WAITING).unlink(missing_ok=True)


def _reported(work_dir: Path) -> TrialProgress:
    try:
        found = json.loads((work_dir / _FILE).read_text())
        share = f" {100 * found['share']:.0f} %" if found["share"] else ""
        expected = found["expected_s"]
        return TrialProgress(f"{found['phase']}{share}", None if expected is None else float(expected))
    except (OSError, ValueError, KeyError, TypeError):
        return TrialProgress()


def progress_text(work_dir: Path) -> str:
    """Read a trial's latest progress as raw text; empty before the first report."""
    try:
        return (work_dir / _FILE).read_text()
    except OSError:
        return ""


def show_progress(work_dir: Path, text: str) -> None:
    """Copy the progress of a trial on another machine to its local folder."""
    if text and text != progress_text(work_dir):
        part = work_dir / f".{_FILE}.part"
        with suppress(OSError):
            part.write_text(text)
            part.replace(work_dir / _FILE)


def discard_progress(work_dir: Path) -> None:
    """Delete the progress of work that has ended, or is about to be repeated."""
    for name in (_FILE, _WAITING):
        (work_dir / name).unlink(missing_ok=True)
