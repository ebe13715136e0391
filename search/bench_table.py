"""What `bench` prints, and what it says while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from objectives.disturbance import FLAGS
from search.console import QUIET_S
from search.present.snapshot import duration


def render_bench(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line per model: milliseconds, ratio to the first, its interval, flags; then on what, and what flags mean."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    for heading in ("px", "p50 ms", "p90 ms", "ratio", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
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


@dataclass
class Speaker:
    """Says on stderr what is being done: one line that is redrawn on a terminal, elsewhere a line when the work
    changes and at least one a minute.

    Args:
        now: seconds that only grow.
    """

    console: Console = field(default_factory=lambda: Console(stderr=True))
    now: Callable[[], float] = time.monotonic
    _live: Live | None = None
    _what: str = ""
    _since: float = 0.0

    def __enter__(self) -> Speaker:
        if self.console.is_terminal:
            self._live = Live(Text("starting"), console=self.console, transient=True)
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, what: str, left_s: float | None = None) -> None:
        text = what if left_s is None else f"{what}, at most {duration(left_s)} left"
        if self._live is not None:
            self._live.update(Text(text, overflow="ellipsis", no_wrap=True))
        elif what != self._what or self.now() - self._since > QUIET_S:
            self._what, self._since = what, self.now()
            self.console.print(Text(text), soft_wrap=True)
