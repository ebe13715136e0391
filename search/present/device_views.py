"""A snapshot by the latencies of another device: its sentences when a user switches to that device."""

from __future__ import annotations

from typing import Any

from search.present.summary import summary
from search.results.schema import Measured, Snapshot, TargetView
from search.trial import FigureCell

_FIGURE = "latency_ms"


def target_data(snapshot: Snapshot) -> dict[str, Any]:
    """Return the page's data of each device (`search.results.target_views`), and the summary by its latencies."""
    found = {}
    for name, view in (snapshot.get("on_targets") or {}).items():
        seen = seen_on(snapshot, name, view)
        found[str(name)] = {**view, "verdict": seen["verdict"], "summary": summary(seen)}
    return found


def seen_on(snapshot: Snapshot, name: str, view: TargetView) -> Snapshot:
    """Return the snapshot with the device's latencies, without trials it has not timed and without baselines."""
    times = view.get("latency_ms") or {}
    rows = [row for row in snapshot.get("trials") or () if row["id"] in times]
    base, own = snapshot.get("base"), float(view.get("base_ms") or 0.0)
    return {
        **snapshot,
        "base": base and {**base, "figures": _timed(base, [own, own, own])},
        "trials": [{**row, "figures": _timed(row, times[row["id"]])} for row in rows],
        "front": view.get("front") or [],
        "picks": view.get("picks") or {},
        "verdict": f"By the times of {name}: {view['verdict']}" if view.get("verdict") else "",
        "baselines": [],
    }


def _timed(row: Measured, latency: list[float]) -> dict[str, FigureCell]:
    value, low, high = latency
    return {**(row.get("figures") or {}), _FIGURE: {"value": value, "low": low, "high": high}}
