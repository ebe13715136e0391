"""A snapshot in which every name is an attack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

HOSTILE = "</script><img src=x onerror=alert(1)>"


def hostile(build: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """A snapshot in which everything that a user or a data set names is an attack."""
    snapshot = build(30)
    renamed = {group["name"]: group["name"] + HOSTILE for group in snapshot["groups"]}
    for group in snapshot["groups"]:
        group["name"], group["stage"] = renamed[group["name"]], HOSTILE
    for row in snapshot["trials"]:
        row["widths"] = {renamed[name]: width for name, width in row["widths"].items()}
        row["source"], row["error"] = HOSTILE, HOSTILE if row["error"] else None
    snapshot["objectives"][0]["title"] = HOSTILE
    return {
        **snapshot,
        "name": HOSTILE + "\u2028{{script}}",
        "verdict": HOSTILE,
        "environment": {"machine": HOSTILE},
        "study": {HOSTILE: HOSTILE},
        "budgets": {HOSTILE: {"latency_ms": 5}},
        "picks": {HOSTILE: {"trial": snapshot["front"][0], "sentence": HOSTILE}},
    }
