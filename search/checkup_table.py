"""What `paretoprune check` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.present.snapshot import duration


def render_check(facts: Mapping[str, Any]) -> RenderableType:
    """Environment, space, reach, budgets and time, below 80 columns."""
    parts: list[RenderableType] = [_environment(facts["environment"]), Text()]
    parts += [_space(facts), Text(), _reach(facts["reach"])]
    for name, budget in facts["budgets"].items():
        limits = ", ".join(budget["limits"])
        fits = "can be met" if budget["reachable"] else "cannot be met, even at the largest ratio"
        parts.append(Text(f"{name} ({limits}): {fits}", style="" if budget["reachable"] else "red"))
    hours = facts["hours"]
    if hours is not None:
        parts.append(Text(f"\nall trials take about {duration(hours * 3600)} (a rough estimate)"))
    parts += [Text(f"note: {note}") for note in facts["notes"]]
    return Group(*parts)


def _environment(found: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in found.items():
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _space(facts: Mapping[str, Any]) -> RenderableType:
    frozen = [group for group in facts["groups"] if group["frozen"]]
    free = len(facts["groups"]) - len(frozen)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("dimension")
    table.add_column("groups", justify="right")
    table.add_column("channels", justify="right")
    sizes = {group["name"]: group["size"] for group in facts["groups"]}
    for name, groups in facts["dimensions"].items():
        table.add_row(Text(name), str(len(groups)), str(sum(sizes[group] for group in groups)))
    lines = [f"\n{free} groups of channels can be pruned, {len(frozen)} cannot"]
    reasons = dict.fromkeys(group["frozen"] for group in frozen)
    lines += [f"  {sum(group['frozen'] == reason for group in frozen)}: {reason}" for reason in reasons]
    if facts["unsupported"]:
        lines.append(f"operators without a rule: {', '.join(facts['unsupported'])}")
    return Group(table, Text("\n".join(lines)))


def _reach(reach: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in ("figure", "base", "largest ratio", "difference"):
        table.add_column(heading, justify="left" if heading == "figure" else "right")
    for name, found in reach.items():
        share = f"{100 * (found['least'] / found['base'] - 1):+.0f} %"
        table.add_row(name, f"{found['base']:.3f}", f"{found['least']:.3f}", share)
    return table
