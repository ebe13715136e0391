"""Names of baselines in a study: validation, and the syntax of a sibling's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from search.config.inputs.paths import absolute
from search.errors import near_miss

CHEAP = ("lower_size", "int8")
"""What is measured at the end of a search when the study names nothing."""
NAMES = ("base", *CHEAP, "uniform", "global", "random", "sibling")
SIBLING = "sibling:"
TRAINED = ("uniform", "global", "random")


def row_text(row: object) -> str:
    """Convert a baseline of a study to one word: `{sibling: small.pt}` is `sibling:small.pt`."""
    if isinstance(row, Mapping) and len(row) == 1:
        ((name, value),) = row.items()
        return f"{name}:{value}"
    return str(row)


def siblings_located(rows: object, folder: Path) -> object:
    """Make the siblings' paths absolute; relative ones are relative to `folder`."""
    if isinstance(rows, str | Mapping):
        rows = [rows]
    if not isinstance(rows, list | tuple):
        return rows  # the study's own check says what is wrong

    def located(text: str) -> str:
        if not text.startswith(SIBLING):
            return text
        return f"{SIBLING}{absolute(Path(text.removeprefix(SIBLING)), folder)}"

    return [located(row_text(row)) for row in rows]


def row_fault(text: str) -> str | None:
    """Return the error in the name of a baseline, or None."""
    if text in NAMES and text != "sibling":
        return None
    if text.startswith(SIBLING) and text != SIBLING:
        return None
    known = ", ".join(NAMES[:-1])
    near = near_miss(text, NAMES)
    hint = f" did you mean {near}?" if near and near != text else ""
    return f"no baseline {text!r};{hint} expected {known} or {{sibling: smaller.pt}}"
