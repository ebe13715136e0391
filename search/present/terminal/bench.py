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
    runtimes = dict.fromkeys(row["runtime"] for row in rows)
    names: list[Column | str] = [Column("model", overflow="fold"), *(["runtime"] if len(runtimes) > 1 else [])]
    table = plain_table(*names, numbers=numbers, no_wrap=True)
    table.add_column("flags")
    for row in rows:
        low, high = row["interval"]
        interval = "reference" if row is rows[0] else f"{low:.3f} to {high:.3f}"
        flags = ", ".join(row["flags"]) + (" (known)" if row["cached"] else "")
        times = (f"{row['p50_ms']:.3f}", f"{row['p90_ms']:.3f}", f"{row['ratio']:.3f}", interval)
        on = [row["runtime"]] if len(runtimes) > 1 else []
        table.add_row(Text(row["model"]), *on, str(row["imgsz"]), *times, Text(flags.strip(), style="dim"))
    meanings = [Text(f"{flag}: {FLAGS[flag]}", style="dim") for flag in FLAGS if any(flag in r["flags"] for r in rows)]
    return Group(table, Text(), Text(_where(rows)), *meanings)


def _where(rows: Sequence[Mapping[str, Any]]) -> str:
    row = rows[0]
    threads = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}"
    runtimes = dict.fromkeys(f"{one['runtime']} {one['version'][:12]}" for one in rows)
    return f"{', '.join(runtimes)}, {row['device']}, {threads}, batch {row['batch']}, {row['processor']}"
