"""marks.json of a run: a user's notes on trials. A pinned trial keeps its weights whatever `keep` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.run_folder.atomic import write_json
from search.run_folder.record import read_json, well_formed
from search.trial import PointId

FILE = "marks.json"
FORMAT = 1
MAX_NOTE = 2000
_OLD_PLACES = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class Mark:
    """A note (plain text, at most MAX_NOTE characters) and a pin."""

    note: str = ""
    pinned: bool = False


def read_marks(run: Path) -> dict[PointId, Mark]:
    """Trial or export -> mark; none where nothing was written. RunCorrupt for a file that is not JSON."""
    rows: Mapping[str, Any] = (read_json(run / FILE, FORMAT) or {}).get("trials", {})
    with well_formed(run / FILE):
        return {_point(name): Mark(str(row["note"]), bool(row["pinned"])) for name, row in rows.items()}


def _point(name: str) -> PointId:
    """Read a key of the file: an id, or the number 10,000,000 + 10 * trial + place that an export had before ids."""
    point = PointId.parse(name)
    trial, place = divmod(point.trial - 10_000_000, 10)
    return PointId(trial, _OLD_PLACES[place]) if trial >= 0 and place < len(_OLD_PLACES) else point


def write_mark(run: Path, point: PointId, mark: Mark) -> None:
    """Set or, with an empty mark, take away what is written beside one trial or export."""
    marks = read_marks(run) | {point: Mark(mark.note[:MAX_NOTE], mark.pinned)}
    kept = {str(name): asdict(one) for name, one in sorted(marks.items()) if one != Mark()}
    write_json(run / FILE, {"format": FORMAT, "trials": kept})


def pinned(run: Path) -> frozenset[PointId]:
    """Ids of the pinned trials."""
    return frozenset(point for point, mark in read_marks(run).items() if mark.pinned)
