"""A run as the server follows it: reread when its files change; only changes are sent.

A reader that was away says up to which trial it knows everything (`Position`): trial numbers count up, so one number is
enough, and a checksum over those rows tells whether one of them has changed since. Exports are few, and sent anew.
"""

from __future__ import annotations

import hashlib
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from search.evaluate.timing.progress import read_progress
from search.export.formats import FORMATS
from search.present.page_data import Data, Frame, page_head, page_row
from search.present.report import inert_json
from search.results.schema import FORMAT, Snapshot
from search.results.snapshot_reader import check_format, current
from search.run_folder.record import RunRecord

_FILES = ("snapshot.json", "marks.json", "enqueue", "sensitivity/curves.json", "base/whatif.json", "base/samples")
_LOOK_AT_LOCK_S = 5.0


@dataclass(frozen=True)
class Position:
    """All trials below `upto` are known, as rows with the checksum `sum`."""

    upto: int = 0
    sum: int = 0

    def __str__(self) -> str:
        return f"{self.upto}-{self.sum:08x}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Parse the output of `str`; the start for anything else."""
        upto, _, checksum = text.partition("-")
        try:
            return cls(int(upto), int(checksum, 16)) if len(text) < 40 else cls()
        except ValueError:
            return cls()


@dataclass(frozen=True)
class View:
    """One reading of a run: `head` is everything but the trials, `rows` the JSON of each trial and export by id."""

    version: int
    head: str
    rows: dict[str, str]
    data: Data = field(repr=False)

    def position(self) -> Position:
        """Return the end of the gapless numbers, and the checksum of those rows."""
        upto = 0
        while str(upto) in self.rows:
            upto += 1
        return Position(upto, self._sum(upto))

    def after(self, known: Position) -> dict[str, str]:
        """The rows that a reader at `known` lacks: all of them, if what it knows has changed."""
        upto = min(known.upto, len(self.rows))  # as it was sent by a reader, it may be any number
        had = set(map(str, range(upto)))
        if upto == known.upto and had <= self.rows.keys() and self._sum(upto) == known.sum:
            return {point: row for point, row in self.rows.items() if point not in had}
        return self.rows

    def _sum(self, upto: int) -> int:
        checksum = 0
        for number in range(upto):
            checksum = zlib.crc32(self.rows[str(number)].encode(), checksum)
        return checksum


class LiveRun:
    """A run's folder under an opaque id."""

    def __init__(self, path: Path) -> None:
        self.record = RunRecord.existing(path)
        self.path = self.record.path
        self.id = hashlib.blake2b(str(self.path).encode(), digest_size=6).hexdigest()
        self._stamp: tuple[Any, ...] = ()
        self._view: View | None = None
        self._rows = Rows()
        self._locked, self._looked = False, -_LOOK_AT_LOCK_S
        self._reading = threading.Lock()

    def view(self) -> View:
        """Return the current reading; files are reread only after a change."""
        with self._reading:
            stamp = (*(_stamp(self.path / name) for name in _FILES), self.is_running())
            if self._view is None or stamp != self._stamp:
                version = 1 if self._view is None else self._view.version + 1
                self._view, self._stamp = _read(self.record, version, self._rows, running=self.is_running()), stamp
            return self._view

    def is_running(self) -> bool:
        """Return whether a coordinator holds the run; checked every few seconds."""
        if time.monotonic() - self._looked >= _LOOK_AT_LOCK_S:
            self._locked, self._looked = self.record.lock.is_held(), time.monotonic()
        return self._locked

    def progress(self) -> list[dict[str, Any]]:
        """Return the running trials: [{"trial", "phase"}]."""
        if not self.is_running():
            return []
        known = self.view().rows
        numbers = sorted(
            int(folder.name) for folder in (self.path / "trials").glob("[0-9]*") if folder.name.isdecimal()
        )
        begun = [number for number in numbers[-64:] if str(number) not in known and self._is_open(number)]
        return [{"trial": number, "phase": read_progress(self.record.trial_dir(number)).phase} for number in begun]

    def _is_open(self, number: int) -> bool:
        return not (self.record.trial_dir(number) / "result.json").exists()

    def precision(self) -> str:
        """Return the study's own precision, in which a candidate is tried that says none."""
        space = self.record.read_args()[0].get("space") or {}
        return str(next(iter(space.get("precision") or ()), "fp32"))

    def brief(self) -> dict[str, Any]:
        """Return one line of the list of runs."""
        data = self.view().data
        progress = data.get("progress") or {}
        return {"id": self.id, "name": data["name"], "state": data["state"], "done": progress.get("done", 0)}


def chunks(rows: dict[str, str], size: int = 250) -> Iterator[str]:
    """JSON lists of at most `size` rows, in their order."""
    texts = list(rows.values())
    for begin in range(0, len(texts), size):
        yield f"[{','.join(texts[begin : begin + size])}]"


class Rows:
    """The JSON of each trial, cached; only changed ones are rebuilt."""

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._made: dict[str, tuple[Any, str]] = {}

    def texts(self, rows: Sequence[Any], frame: Frame) -> dict[str, str]:
        """id -> JSON of all rows."""
        known = self._made if frame == self._frame else {}
        self._frame, self._made = frame, {}
        for row in rows:
            point = str(row["id"])
            before = known.get(point)
            text = before[1] if before is not None and before[0] == row else inert_json(page_row(row, frame))
            self._made[point] = (row, text)
        return {point: text for point, (_, text) in self._made.items()}


def _read(record: RunRecord, version: int, made: Rows, *, running: bool) -> View:
    found = record.read_snapshot()
    if found is None:
        state = "preparing" if running else "interrupted"
        snapshot = cast(Snapshot, {"format": FORMAT, "name": record.path.name, "trials": []})
    else:
        snapshot = current(found)
        check_format(snapshot)
        # A coordinator that was killed could not say so: its snapshot still claims to run.
        state = "interrupted" if snapshot["state"] == "running" and not running else snapshot["state"]
    head, frame = page_head({**snapshot, "state": state}, record.path)
    data = {**head, "formats": list(FORMATS)}
    rows = made.texts(snapshot.get("trials") or (), frame)
    return View(version, inert_json({**data, "trials": len(rows)}), rows, data)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
