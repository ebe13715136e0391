"""A snapshot by the times of another device: what its sentences say when a reader switches to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from search.present.summary import summary
from search.results.snapshot_reader import Row

_FIGURE = "latency_ms"


def target_data(snapshot: Row) -> dict[str, Any]:
    """What the page needs of each device (`search.results.target_views`), and the summary by its times."""
    found = {}
    for name, view in (snapshot.get("on_targets") or {}).items():
        seen = seen_on(snapshot, name, view)
        found[str(name)] = {**view, "verdict": seen["verdict"], "summary": summary(seen)}
    return found


def seen_on(snapshot: Row, name: str, view: Mapping[str, Any]) -> dict[str, Any]:
    """The snapshot with the device's latencies; trials that it has not timed and honest rows, timed here, are gone."""
    times = view.get("latency_ms") or {}
    rows = [row for row in snapshot.get("trials") or () if str(row["number"]) in times]
    base, own = snapshot.get("base"), float(view.get("base_ms") or 0.0)
    return {
        **snapshot,
        "base": base and _timed(base, [own, own, own]),
        "trials": [_timed(row, times[str(row["number"])]) for row in rows],
        "front": view.get("front") or [],
        "picks": view.get("picks") or {},
        "verdict": f"By the times of {name}: {view['verdict']}" if view.get("verdict") else "",
        "baselines": [],
    }


def _timed(row: Row, latency: list[float]) -> dict[str, Any]:
    figure = dict(zip(("value", "low", "high"), latency, strict=True))
    return {**row, "figures": {**(row.get("figures") or {}), _FIGURE: figure}}
