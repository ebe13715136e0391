"""Read a snapshot, the plain record that the status, the tables and the report display.

A snapshot is the content of `snapshot.json`. Nothing here measures or decides anything; a figure that is missing
(a trial still running, a runtime that was not asked for) is `None`, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from objectives.objective import DEPLOYED, NAMED_ONLY, OBJECTIVES
from search.errors import ConfigError, RunCorrupt
from search.results.schema import FORMAT, Measured, Snapshot, TrialRow


class SnapshotError(RunCorrupt):
    """A snapshot that this version cannot display."""


class UnknownTrial(ConfigError):
    """A trial that the snapshot does not hold; the message names the known range."""


@dataclass(frozen=True)
class Figure:
    """Display properties of a figure: `unit` is empty for a fraction, `digits` are those to print."""

    name: str
    title: str
    unit: str
    direction: str
    digits: int = 3

    @property
    def heading(self) -> str:
        """Title with unit, for a column."""
        return f"{self.title} {self.unit}".strip()


_SHORT = {
    "precision": "precision",
    "recall": "recall",
    "latency_ms": "latency",
    "params_m": "params",
    "size_mb": "size",
    "e2e_ms": "end to end",
    "memory_mb": "memory",
    "energy_mj": "energy",
}
"""Titles short enough for a column of a terminal; names, units and directions are those of the objectives."""

_KNOWN = {
    one.name: Figure(one.name, _SHORT.get(one.name, one.title), "" if one.is_fraction else one.unit, one.direction)
    for one in OBJECTIVES.values()
}
_COSTS = ("latency_ms", "params_m", "macs_g", "size_mb", *DEPLOYED)


def check_format(snapshot: Snapshot) -> None:
    """Refuse a snapshot of another format.

    Raises:
        SnapshotError: `format` is not the one that this version writes.
    """
    if (found := snapshot.get("format")) != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        raise SnapshotError(
            f"this snapshot has format {found!r}{', it was written by a newer version' if newer else ''}",
            where="snapshot.json: format",
            expected=f"format {FORMAT}",
            next_command="pip install --upgrade paretoprune" if newer else None,
        )


def describe(snapshot: Snapshot, name: str) -> Figure:
    """Return a figure's usual name (short enough for a terminal), else the one of the study's objectives.

    Of a name that a task of a user's own may have declared, the study's where its unit or direction is another.
    """
    figure, said = _KNOWN.get(name), _as_objective(snapshot, name)
    is_said = name in NAMED_ONLY and any(item.get("name") == name for item in snapshot.get("objectives", ()))
    if figure is None or (is_said and (said.unit, said.direction) != (figure.unit, figure.direction)):
        figure = said
    if figure.direction == "max":
        return figure
    return replace(figure, digits=_digits(value(base(snapshot), name)))


def _as_objective(snapshot: Snapshot, name: str) -> Figure:
    known = (item for item in snapshot.get("objectives", ()) if item.get("name") == name)
    said = next(known, {"name": name, "unit": "", "title": name, "direction": "min"})
    unit, title, direction = said.get("unit") or "", said.get("title") or name, said.get("direction") or "min"
    return Figure(name, title, "" if unit == "fraction" else unit, direction)


def _digits(reference: float | None) -> int:
    """Return the digits that show the base to three places, so that a column has one number of digits."""
    if reference is None or reference <= 0:
        return 2
    return max(1, min(6, 2 - math.floor(math.log10(reference))))


def figures(snapshot: Snapshot) -> tuple[Figure, ...]:
    """Return the study's objectives, then the other recorded costs."""
    names = [str(item["name"]) for item in snapshot.get("objectives", ())]
    rows = [base(snapshot), *snapshot.get("trials", ())]
    seen = [name for name in _COSTS if any(value(row, name) is not None for row in rows)]
    return tuple(describe(snapshot, name) for name in dict.fromkeys([*names, *seen]))


def id_of(row: Mapping[str, Any]) -> str:
    """The id of a row, also of format 1: an export had the label `17 int8` there, the oldest trials a number only."""
    return str(row.get("id", row.get("label", row["number"]))).replace(" ", "-")


def current(content: Mapping[str, Any]) -> Snapshot:
    """A snapshot that was read, as this version writes it: format 1 had numbers where ids are. Others stay so."""
    if content.get("format") != 1:
        return cast(Snapshot, content)
    ids = {row["number"]: id_of(row) for row in content.get("trials") or ()}

    def keyed(part: Mapping[str, Any]) -> dict[str, Any]:
        picks = {name: {**pick, "trial": ids.get(pick["trial"])} for name, pick in (part.get("picks") or {}).items()}
        listed = {key: [ids[one] for one in part[key] if one in ids] for key in ("front", "feasible") if part.get(key)}
        return {**part, **listed, "picks": picks}

    rows = [{**row, "id": ids[row["number"]], **_exported(row)} for row in content.get("trials") or ()]
    views = {name: keyed(view) for name, view in (content.get("on_targets") or {}).items()}
    return cast(Snapshot, {**keyed(content), "format": FORMAT, "trials": rows, "on_targets": views})


def _exported(row: Mapping[str, Any]) -> dict[str, Any]:
    """Number and kind of a row of format 1, where an export had a number of its own."""
    trial = row.get("exported_from")
    return {"number": row["number"] if trial is None else trial, "exported": trial is not None}


def base(snapshot: Snapshot) -> Measured:
    """Return the base's row; empty until it is measured."""
    return snapshot.get("base") or {"figures": {}, "per_class": {}}


def base_name(snapshot: Snapshot, row: TrialRow) -> str | None:
    """The name of the base that a trial was made of; None in a study of one base."""
    return row.get("base") if snapshot.get("bases") else None


def groups_of(snapshot: Snapshot, row: TrialRow) -> Sequence[Mapping[str, Any]]:
    """The groups of the base that a trial was made of."""
    bases, place = snapshot.get("bases") or (), (row.get("candidate") or {}).get("base", 0)
    return bases[place]["groups"] if 0 < place < len(bases) else snapshot.get("groups", ())


def value(row: Measured, name: str) -> float | None:
    """Return a figure's value, or None if missing or not finite."""
    found = (row.get("figures") or {}).get(name)
    number = None if found is None else found.get("value")
    return float(number) if number is not None and math.isfinite(number) else None


def interval(row: Measured, name: str) -> tuple[float, float] | None:
    """Return the 95 % interval of a figure, or None if exact or missing."""
    found = (row.get("figures") or {}).get(name)
    low, high = (None, None) if found is None else (found.get("low"), found.get("high"))
    return (float(low), float(high)) if low is not None and high is not None and high > low else None


def trial(snapshot: Snapshot, point: str) -> TrialRow:
    """The row of a trial or an export, by its id.

    Raises:
        UnknownTrial: no row has this id.
    """
    rows: Sequence[TrialRow] = snapshot.get("trials", ())
    for row in rows:
        if row["id"] == point:
            return row
    known = f"a number from 0 to {max(row['number'] for row in rows)}" if rows else "no trial has been recorded yet"
    raise UnknownTrial(f"there is no trial {point}", expected=known)


def front(snapshot: Snapshot) -> list[TrialRow]:
    """Return the rows on the front, along the first cost (cheapest first)."""
    rows = [row for row in snapshot.get("trials", ()) if row.get("on_front")]
    cost = next((figure.name for figure in figures(snapshot) if figure.direction == "min"), "")
    return sorted(rows, key=lambda row: (found if (found := value(row, cost)) is not None else math.inf, row["number"]))


def picked_for(snapshot: Snapshot, point: str) -> list[str]:
    """The names of the budgets for which the trial or export of this id is the pick."""
    return [str(name) for name, pick in (snapshot.get("picks") or {}).items() if pick.get("trial") == point]


def printed(figure: Figure, number: float | None) -> str:
    """Format a value with its significant digits."""
    return "-" if number is None else f"{number:.{figure.digits}f}"


def difference(figure: Figure, number: float | None, reference: float | None) -> str:
    """Format the difference to the base: points for accuracy, "1.90x faster" as `1.90x` for time, else per cent."""
    if number is None or reference is None:
        return ""
    if figure.direction == "max":
        return f"{(number - reference) * 100:+.1f} pt"
    if number <= 0 or reference <= 0:
        return ""
    if figure.name.startswith("latency"):
        return f"{reference / number:.2f}x"
    return f"{(number / reference - 1) * 100:+.0f} %"


def duration(seconds: float | None) -> str:
    """Format seconds for humans."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
