"""Tables of a run for a terminal: the front, all trials, one trial in full.

Every table starts with the base; a cell shows the value and, dimmed, its difference to the base. Text of a user
or a data set is wrapped in `Text`, so that rich never reads it as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.present.terminal.columns import Column, plain_table
from search.results import snapshot_reader as reading
from search.results.schema import Measured, Snapshot, TrialRow
from search.results.snapshot_reader import Figure

_MOST_COLUMNS = 4  # figures that fit beside number, notes and their differences in 80 columns


def front_table(snapshot: Snapshot) -> Table:
    """Return the trials on the front, cheapest first, with the picks named."""
    figures = _columns(snapshot)
    table = _table(snapshot, figures, "pick")
    for row in reading.front(snapshot):
        seeds = row.get("seeds", 1)
        names = [*reading.picked_for(snapshot, row["id"]), *([f"{seeds} seeds"] if seeds > 1 else [])]
        table.add_row(
            Text(row["id"]),
            *_base(snapshot, row),
            *_cells(snapshot, row, figures),
            Text(", ".join(names), style="magenta"),
        )
    return _keep_numbers(table)


def baseline_table(snapshot: Snapshot) -> Table:
    """Return the baselines with their figures, or why they have none."""
    figures = _columns(snapshot)
    table = _table(snapshot, figures, "note", first="instead", with_bases=False)
    for row in snapshot.get("baselines") or ():
        note = Text(str(row.get("note") or ""), style="dim")
        table.add_row(Text(str(row["name"])), *_cells(snapshot, row, figures), note)
    return _keep_numbers(table)


def trials_table(snapshot: Snapshot) -> Table:
    """Return every trial in order, with its state."""
    figures = _columns(snapshot)
    table = _table(snapshot, figures, "state")
    for row in snapshot.get("trials", ()):
        style = "" if row.get("feasible") else "dim"
        table.add_row(Text(row["id"]), *_base(snapshot, row), *_cells(snapshot, row, figures), _state(row), style=style)
    return _keep_numbers(table)


def trial_details(snapshot: Snapshot, point: str) -> RenderableType:
    """One trial or export, by its id, in full: figures with their intervals, where it came from, what each group kept.

    Raises:
        UnknownTrial: no row has this id.
    """
    row = reading.trial(snapshot, point)
    parts: list[RenderableType] = [_title(snapshot, row), _facts(row)]
    if row.get("figures"):
        parts.append(_figure_table(snapshot, row))
    if row.get("widths"):
        parts.append(_width_table(snapshot, row))
    if row.get("error"):
        parts.append(Text(str(row["error"]), style="red"))
    return Group(*parts)


def _table(
    snapshot: Snapshot, figures: Sequence[Figure], last: str, first: str = "trial", *, with_bases: bool = True
) -> Table:
    names = [base["name"] for base in snapshot.get("bases") or ()] if with_bases else []
    table = plain_table(Column(first, no_wrap=True), *([Column("base", no_wrap=True)] if names else []))
    for figure in figures:
        table.add_column(Text(figure.heading), justify="right", no_wrap=True)
    table.add_column(last, overflow="ellipsis", no_wrap=True)
    if with_bases:
        cells = _cells(snapshot, reading.base(snapshot), figures, is_base=True)
        table.add_row(Text("base"), *map(Text, names[:1]), *cells, Text(""), style="bold")
    for base in snapshot.get("bases", [])[1:] if with_bases else ():
        table.add_row(Text("unpruned"), Text(base["name"]), *_cells(snapshot, base, figures), Text(""), style="bold")
    return table


def _base(snapshot: Snapshot, row: TrialRow) -> list[Text]:
    """The cell that names the base of a trial, in a study of several."""
    name = reading.base_name(snapshot, row)
    return [] if name is None else [Text(name)]


def _keep_numbers(table: Table) -> Table:
    """Truncate only the last column, which is text, in a narrow terminal; a truncated number would mislead."""
    for column in table.columns[:-1]:
        column.min_width = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    return table


def _columns(snapshot: Snapshot) -> tuple[Figure, ...]:
    """Return the figures of a table; found once for all of its rows, since every trial is looked at."""
    return reading.figures(snapshot)[: _MOST_COLUMNS - bool(snapshot.get("bases"))]


def _cells(snapshot: Snapshot, row: Measured, figures: Sequence[Figure], *, is_base: bool = False) -> Iterable[Text]:
    for figure in figures:
        number = reading.value(row, figure.name)
        cell = Text(reading.printed(figure, number))
        if not is_base:
            cell.append_text(_difference(snapshot, figure, number))
        yield cell


def _difference(snapshot: Snapshot, figure: Figure, number: float | None) -> Text:
    reference = reading.value(reading.base(snapshot), figure.name)
    text = reading.difference(figure, number, reference)
    return Text(f" {text}" if text else "", style="dim")


def _state(row: TrialRow) -> Text:
    if row.get("on_front"):
        return Text("front", style="green")
    if row["state"] == "complete":
        return Text("complete" if row.get("feasible") else _breach(row))
    cause = str(row.get("error") or "").strip().split("\n")[0]
    return Text(f"{row['state']}{': ' if cause else ''}{cause}", style="red" if row["state"] == "failed" else "")


def _breach(row: TrialRow) -> str:
    """Return the violated constraint, by how much, and the class that was lost, if any."""
    return "; ".join(row.get("breaks") or ()) or "breaks a constraint"


def _title(snapshot: Snapshot, row: TrialRow) -> Text:
    text = Text(f"trial {row['id']}", style="bold")
    name = reading.base_name(snapshot, row)
    notes = [f"pruned from {name}"] if name is not None else []
    notes += ["on the front"] if row.get("on_front") else []
    if row.get("seeds", 1) > 1:
        notes.append(f"mean of {row['seeds']} seeds")
    notes += [f"pick for {name}" for name in reading.picked_for(snapshot, row["id"])]
    if row.get("same_as") is not None:
        notes.append(f"same widths as trial {row['same_as']}, measured once")
    return text.append(f"  {'; '.join(notes)}", style="not bold") if notes else text


def _facts(row: TrialRow) -> Table:
    candidate, seconds = row.get("candidate") or {}, row.get("seconds") or {}
    spent = ", ".join(f"{phase} {reading.duration(spent)}" for phase, spent in seconds.items())
    facts = {
        "state": row["state"] if row.get("feasible") or row["state"] != "complete" else _breach(row),
        "source": row.get("source"),
        "input": f"{candidate['imgsz']} px, {candidate.get('precision', 'fp32')}" if candidate.get("imgsz") else None,
        "removed": ", ".join(row.get("removed") or ()),
        "time": spent,
    }
    table = Table.grid(padding=(0, 2))
    for name, fact in facts.items():
        if fact:
            table.add_row(Text(name, style="dim"), Text(str(fact)))
    return table


def _figure_table(snapshot: Snapshot, row: TrialRow) -> Table:
    table = plain_table("figure", numbers=("value", "95 % interval", "base", "difference"), no_wrap=True)
    usual = reading.figures(snapshot)
    extra = [name for name in row["figures"] if name not in {figure.name for figure in usual}]
    for figure in (*usual, *(reading.describe(snapshot, name) for name in extra)):
        table.add_row(*(Text(cell) for cell in _figure_cells(snapshot, row, figure)))
    return table


def _figure_cells(snapshot: Snapshot, row: TrialRow, figure: Figure) -> tuple[str, ...]:
    number, spread = reading.value(row, figure.name), reading.interval(row, figure.name)
    reference = reading.value(reading.base(snapshot), figure.name)
    interval = " to ".join(reading.printed(figure, end) for end in spread) if spread else "exact"
    difference = reading.difference(figure, number, reference)
    faster = " faster" if difference.endswith("x") else ""
    shown = interval if number is not None else ""
    return (
        figure.heading,
        reading.printed(figure, number),
        shown,
        reading.printed(figure, reference),
        difference + faster,
    )


def _width_table(snapshot: Snapshot, row: TrialRow) -> Table:
    columns = Column("group", overflow="ellipsis", no_wrap=True), Column("stage", no_wrap=True)
    table = plain_table(*columns, numbers=("kept",), no_wrap=True)
    table.add_column("", no_wrap=True)
    for group in reading.groups_of(snapshot, row):
        if not group.get("frozen"):
            kept = 0 if _is_gone(group, row.get("removed") or ()) else row["widths"].get(group["name"], group["size"])
            bar = _bar(kept / group["size"])
            table.add_row(Text(group["name"]), Text(str(group["stage"])), f"{kept} of {group['size']}", bar)
    return table


def _is_gone(group: Mapping[str, Any], removed: Sequence[str]) -> bool:
    """Return whether a group lies in a removed block, or goes with removed detection levels."""
    levels = group.get("levels")
    in_block = any(group["name"].startswith(f"{block}.") for block in removed)
    return in_block or bool(levels and set(levels) <= set(removed))


def _bar(share: float, length: int = 20) -> Text:
    full = round(share * length)
    return Text("█" * full, style="cyan").append("·" * (length - full), style="dim")
