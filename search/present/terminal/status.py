"""Status of a search on a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.present.summary import summary
from search.present.terminal.tables import baseline_table, front_table
from search.results import snapshot_reader as reading
from search.results.schema import Snapshot

_STYLES = {"finished": "green", "running": "cyan", "interrupted": "yellow"}


def render_status(snapshot: Snapshot) -> RenderableType:
    """Render state, summary, progress, time left, hypervolume, picks and front; readable in 80 columns.

    Raises:
        SnapshotError: a snapshot of another format.
    """
    reading.check_format(snapshot)
    parts: list[RenderableType] = [_title(snapshot), *map(Text, summary(snapshot)), Text(), _progress(snapshot)]
    if snapshot.get("picks") or snapshot.get("budgets"):
        parts += [Text(), _budgets(snapshot)]
    parts += [Text(), front_table(snapshot)]
    if snapshot.get("baselines"):
        parts += [Text(), baseline_table(snapshot)]
    return Group(*parts)


def _title(snapshot: Snapshot) -> Text:
    state = str(snapshot["state"])
    return Text(str(snapshot["name"]), style="bold").append(f"  {state}", style=_STYLES.get(state, ""))


def _progress(snapshot: Snapshot) -> Table:
    progress = snapshot.get("progress") or {}
    volumes = snapshot.get("hypervolume") or ()
    counts = [f"{progress.get('done', 0)} of {progress.get('total', '?')} done", f"{progress.get('failed', 0)} failed"]
    if progress.get("running"):
        counts.append(f"{progress['running']} running")
    eta = progress.get("eta_s") if snapshot["state"] == "running" else None
    left = f", about {reading.duration(eta)} left" if eta is not None else ""
    rows = {
        "trials": ", ".join(counts),
        "time": reading.duration(progress.get("seconds")) + left,
        "front": f"{len(snapshot.get('front') or ())} trials",
        "hypervolume": f"{volumes[-1]['value']:.4g}" if volumes and volumes[-1]["value"] is not None else "-",
    }
    if limits := snapshot.get("constraints"):
        said = ", ".join(f"{bound['name']} {bound['op']} {bound['limit']:g}" for bound in limits)
        refused = sum(row["state"] == "complete" and not row.get("feasible") for row in snapshot.get("trials", ()))
        rows["constraints"] = f"{said}: {refused} trials refused"
    if end := snapshot.get("end"):
        rows["end"] = end["sentence"]
    return _pairs(rows)


def _budgets(snapshot: Snapshot) -> Table:
    budgets, picks = snapshot.get("budgets") or {}, snapshot.get("picks") or {}
    rows = {}
    for name in dict.fromkeys([*budgets, *picks]):
        bounds = ", ".join(f"{key} <= {limit}" for key, limit in (budgets.get(name) or {}).items())
        pick = picks.get(name)
        point = None if pick is None else pick["trial"]
        found = "nothing fits yet" if point is None else f"trial {point}"
        sentence = f"  {pick['sentence']}" if pick is not None and pick["sentence"] else ""
        rows[str(name)] = f"{f'({bounds}) ' if bounds else ''}{found}{sentence}"
    return _pairs(rows)


def _pairs(rows: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, max_width=24, overflow="ellipsis")
    for name, text in rows.items():
        table.add_row(Text(name, style="dim"), Text(text))
    return table
