"""Terminal output of `bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from objectives.latency.quality_flags import FLAGS
from search.present.terminal.columns import Column, plain_table


def render_bench(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return one line per model: milliseconds, ratio to the first, its interval, flags; then conditions and legend."""
    numbers = ("px", "p50 ms", "p90 ms", "ratio", "95 % interval")
    table = plain_table(Column("model", overflow="fold"), numbers=numbers, no_wrap=True)
    table.add_column("flags")
    for row in rows:
        low, high = row["interval"]
        interval = "reference" if row is rows[0] else f"{low:.3f} to {high:.3f}"
        flags = ", ".join(row["flags"]) + (" (known)" if row["cached"] else "")
        times = (f"{row['p50_ms']:.3f}", f"{row['p90_ms']:.3f}", f"{row['ratio']:.3f}", interval)
        table.add_row(Text(row["model"]), str(row["imgsz"]), *times, Text(flags.strip(), style="dim"))
    meanings = [Text(f"{flag}: {FLAGS[flag]}", style="dim") for flag in FLAGS if any(flag in r["flags"] for r in rows)]
    return Group(table, Text(), Text(_where(rows[0])), *meanings)


def _where(row: Mapping[str, Any]) -> str:
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    return (
        f"{row['runtime']} {row['version'][:12]}, {row['device']}, {threads}, batch {row['batch']}, {row['processor']}"
    )
