"""Terminal output of `compare`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from objectives.objective import MAIN_FIGURES, OBJECTIVES
from search.present.terminal.columns import Column, plain_table

_SHOWN = (*dict.fromkeys(MAIN_FIGURES.values()), "map50_95")


def render_compare(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return one line per model, with differences of sizes to the first in brackets."""
    figures = [name for name in dict.fromkeys(("map50_95", *_SHOWN)) if name in rows[0]["figures"]]
    numbers = ("params", "MACs", "file", "latency", "FPS", "found", *(OBJECTIVES[name].title for name in figures))
    table = plain_table(Column("model", overflow="fold"), numbers=numbers)
    for row in rows:
        table.add_row(Text(str(row["model"])), *_cells(row, rows[0]), *_accuracy(row, figures))
    first = rows[0]
    where = f"{first['runtime']} {first['version'][:12]}, {first['device']}, threads: {first['threads']}"
    found = "found: boxes above a confidence of 0.25, of the objects that are labelled"
    return Group(table, Text(f"\n{where}"), *([Text(found)] if rows[0]["labels"] else []))


def _cells(row: Mapping[str, Any], first: Mapping[str, Any]) -> tuple[str, ...]:
    def cell(key: str, unit: str, digits: int) -> str:
        return _text(row[key], lambda value: f"{value:.{digits}f} {unit}{_change(row, first, key)}")

    found = _text(row["found"], lambda value: f"{value} of {row['labels']}")
    return (
        cell("params_m", "M", 3),
        cell("macs_g", "G", 3),
        cell("size_mb", "MB", 2),
        cell("latency_ms", "ms", 2),
        f"{row['fps']:.0f}",
        found,
    )


def _change(row: Mapping[str, Any], first: Mapping[str, Any], key: str) -> str:
    if row is first or not first[key]:
        return ""
    return f" ({100 * (row[key] / first[key] - 1):+.0f} %)"


def _text(value: Any, draw: Callable[[Any], str]) -> str:
    return "-" if value is None else draw(value)


def _accuracy(row: Mapping[str, Any], figures: Sequence[str]) -> list[str]:
    return [_text(row["figures"].get(name), lambda value: f"{value:.4f}") for name in figures]
