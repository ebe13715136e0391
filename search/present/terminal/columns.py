"""The plain table of the command line: bold headings, no frame."""

from __future__ import annotations

from rich.table import Column, Table

__all__ = ["Column", "plain_table"]


def plain_table(*columns: Column | str, numbers: tuple[str, ...] = (), no_wrap: bool = False) -> Table:
    """Return a table without a frame; `numbers` are the headings of right-aligned columns after the others."""
    right = (Column(heading, justify="right", no_wrap=no_wrap) for heading in numbers)
    return Table(*columns, *right, box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
