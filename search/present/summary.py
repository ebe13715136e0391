"""Summary of a search in a few sentences, the same on the page, in `status` and in a notification."""

from __future__ import annotations

from collections.abc import Iterator

from search.present.health import health
from search.results import snapshot_reader as reading
from search.results.schema import Measured, Snapshot
from search.results.snapshot_reader import Figure

_STATES = {"finished": "has finished", "running": "is running", "interrupted": "was interrupted and can be resumed"}


def summary(snapshot: Snapshot) -> list[str]:
    """Return plain sentences, the most important first: progress, verdict, each budget's pick, warnings."""
    warnings = [finding["title"] for finding in health(snapshot) if finding["level"] == "warn"]
    lines = [_progress(snapshot)]
    if snapshot.get("verdict"):
        lines.append(str(snapshot["verdict"]))
    lines += _budgets(snapshot)
    lines += _bases(snapshot)
    lines += _baselines(snapshot)
    if warnings:
        lines.append(f"Look at: {'; '.join(warnings)}.")
    return lines


def _progress(snapshot: Snapshot) -> str:
    progress = snapshot.get("progress") or {}
    failed = progress.get("failed") or 0
    state = _STATES.get(str(snapshot.get("state")), str(snapshot.get("state")))
    eta = progress.get("eta_s") if snapshot.get("state") == "running" else None
    left = f", about {reading.duration(eta)} left" if eta is not None else ""
    return (
        f"{snapshot.get('name')} {state}: {progress.get('done', 0)} of {progress.get('total', '?')} trials in "
        f"{reading.duration(progress.get('seconds'))}{left}, {failed or 'none'} failed, "
        f"{len(snapshot.get('front') or ())} on the front."
    )


def _budgets(snapshot: Snapshot) -> Iterator[str]:
    for name, limits in (snapshot.get("budgets") or {}).items():
        bounds = ", ".join(_bound(snapshot, key, limit) for key, limit in limits.items())
        pick = (snapshot.get("picks") or {}).get(name)
        if pick is None or pick["trial"] is None:
            yield f"{name} ({bounds}): nothing fits yet."
            continue
        row = reading.trial(snapshot, pick["trial"])
        said = [_figure(snapshot, figure, row) for figure in reading.figures(snapshot)[:2]]
        yield f"{name} ({bounds}): trial {row['id']}, {', '.join(filter(None, said))}."


def _bases(snapshot: Snapshot) -> Iterator[str]:
    """Yield a sentence on each base of a study of several: its trials, and whether the search has left it."""
    for base in snapshot.get("bases") or ():
        count, on_front = base["trials"], base["on_front"]
        line = f"{base['name']}: {count} {'trial' if count == 1 else 'trials'}, {on_front or 'none'} on the front"
        if base["is_left"]:
            line += f"; left after trial {base['last']}: from then on trials of another base promised more"
        yield f"{line}."


def _baselines(snapshot: Snapshot) -> Iterator[str]:
    """Yield sentences on the baselines, if the study has any."""
    for row in snapshot.get("baselines") or ():
        said = [_figure(snapshot, figure, row) for figure in reading.figures(snapshot)[:2]]
        if any(said):
            yield f"For comparison, {row.get('name')}: {', '.join(filter(None, said))}."


def _bound(snapshot: Snapshot, name: str, limit: float) -> str:
    figure = reading.describe(snapshot, name)
    sign = ">=" if figure.direction == "max" else "<="
    return f"{figure.title} {sign} {limit:g} {figure.unit}".rstrip()


def _figure(snapshot: Snapshot, figure: Figure, row: Measured) -> str:
    number = reading.value(row, figure.name)
    if number is None:
        return ""
    difference = reading.difference(figure, number, reading.value(reading.base(snapshot), figure.name))
    faster = " as fast" if difference.endswith("x") else ""
    note = f" ({difference}{faster})" if difference else ""
    return f"{figure.title} {reading.printed(figure, number)} {figure.unit}".rstrip() + note
