"""marks.json of a run: a user's notes on trials. A pinned trial keeps its weights whatever `keep` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.run_folder.atomic import write_json
from search.run_folder.record import read_json

FILE = "marks.json"
FORMAT = 1
MAX_NOTE = 2000


@dataclass(frozen=True)
class Mark:
    """A note (plain text, at most MAX_NOTE characters) and a pin."""

    note: str = ""
    pinned: bool = False


def read_marks(run: Path) -> dict[int, Mark]:
    """Return trial number -> mark. Raises RunCorrupt for a file that is not JSON."""
    rows: Mapping[str, Any] = (read_json(run / FILE) or {}).get("trials", {})
    return {int(number): Mark(str(row["note"]), bool(row["pinned"])) for number, row in rows.items()}


def write_mark(run: Path, number: int, mark: Mark) -> None:
    """Set the mark of one trial; an empty mark deletes it."""
    marks = read_marks(run) | {number: Mark(mark.note[:MAX_NOTE], mark.pinned)}
    kept = {str(n): asdict(one) for n, one in sorted(marks.items()) if one != Mark()}
    write_json(run / FILE, {"format": FORMAT, "trials": kept})


def pinned(run: Path) -> frozenset[int]:
    """Return the numbers of the pinned trials."""
    return frozenset(number for number, mark in read_marks(run).items() if mark.pinned)
