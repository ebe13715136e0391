"""Sensitivity as a table: one row per part of the network, one column per share removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

LEVELS = (0.25, 0.5, 0.75, 0.9)
_SHADES = ((0.003, "green"), (0.03, ""), (0.15, "yellow"))
"""Divergence below which a cell is drawn so; above all of them it is red."""


def render_sensitivity(facts: Mapping[str, Any]) -> RenderableType:
    """Render the curves of `sensitivity_facts`, most sensitive parts in red; of several bases one after the other."""
    parts: list[RenderableType] = []
    for name, found in (facts.get("bases") or {"": facts}).items():
        parts += [Text(f"{name}\n", style="bold")] if name else []
        parts += [*_curves(found), Text()]
    return Group(*parts, Text(f"next: paretoprune search {facts['run']}/args.yaml"))


def _curves(facts: Mapping[str, Any]) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False)
    table.add_column("part")
    for level in LEVELS:
        table.add_column(f"{level:.0%}", justify="right")
    for row in facts["dimensions"]:
        table.add_row(row["name"], *(_cell(value) for value in row["at"]))
    parts: list[RenderableType] = [Text("divergence of the outputs when this share of one part goes\n"), table]
    if facts["blocks"]:
        whole = Table(box=None, pad_edge=False)
        whole.add_column("block")
        whole.add_column("removed", justify="right")
        for row in facts["blocks"]:
            whole.add_row(row["name"], _cell(row["removed"]))
        parts += [Text(), whole]
    return parts


def sensitivity_facts(run: str, curves: Mapping[str, Any], blocks: Mapping[str, str]) -> dict[str, Any]:
    """Return plain data for `-f json`: every curve's points, and its values at LEVELS.

    Args:
        curves: name -> pruning.sensitivity.Curve.
        blocks: parameter -> path of the removable blocks.
    """
    dimensions = [
        {
            "name": name,
            "ratios": list(curve.ratios),
            "divergences": list(curve.divergences),
            "at": [curve.at(level) for level in LEVELS],
        }
        for name, curve in curves.items()
        if name not in blocks
    ]
    removals = [{"name": path, "removed": curves[parameter].at(1.0)} for parameter, path in blocks.items()]
    return {"run": run, "levels": list(LEVELS), "dimensions": dimensions, "blocks": removals}


def _cell(value: float) -> Text:
    style = next((shade for limit, shade in _SHADES if value < limit), "red")
    return Text(f"{value:.3f}" if value >= 0.0005 else "0", style=style)
