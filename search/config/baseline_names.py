"""Names of baselines in a study: validation, and the syntax of a sibling's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from search.config.inputs.paths import absolute, is_file
from search.errors import near_miss

CHEAP = ("lower_size", "int8")
"""What is measured at the end of a search when the study names nothing."""
NAMES = ("base", *CHEAP, "uniform", "global", "random", "train", "sibling")
SIBLING = "sibling:"
TRAIN = "train:"
"""`{train: yolov8n.yaml}`: an architecture, or a checkpoint, to train on the study's data for as long as the search."""
TRAINED = ("uniform", "global", "random")


def row_text(row: object) -> str:
    """Convert a baseline of a study to one word: `{sibling: small.pt}` is `sibling:small.pt`."""
    if isinstance(row, Mapping) and len(row) == 1:
        ((name, value),) = row.items()
        return f"{name}:{value}"
    return str(row)


def siblings_located(rows: object, folder: Path) -> object:
    """Make the paths of siblings, and of files to train, absolute; relative ones are relative to `folder`."""
    if isinstance(rows, str | Mapping):
        rows = [rows]
    if not isinstance(rows, list | tuple):
        return rows  # the study's own check says what is wrong

    def located(text: str) -> str:
        if text.startswith(TRAIN):
            return training_located(text, folder)
        if not text.startswith(SIBLING):
            return text
        return f"{SIBLING}{absolute(Path(text.removeprefix(SIBLING)), folder)}"

    return [located(row_text(row)) for row in rows]


def training_located(text: str, folder: Path) -> str:
    """Make the path of a file to train absolute; the name of an architecture of Ultralytics is no file, and stays."""
    path = absolute(Path(text.removeprefix(TRAIN)), folder)
    return f"{TRAIN}{path}" if is_file(path) else text


def row_fault(text: str) -> str | None:
    """Return the error in the name of a baseline, or None."""
    if text in NAMES and text not in ("sibling", "train"):
        return None
    if text.startswith((SIBLING, TRAIN)) and text not in (SIBLING, TRAIN):
        return None
    known = ", ".join(name for name in NAMES if name not in ("sibling", "train"))
    near = near_miss(text, NAMES)
    hint = f" did you mean {near}?" if near and near != text else ""
    return f"no baseline {text!r};{hint} expected {known}, {{train: yolov8n.yaml}} or {{sibling: smaller.pt}}"
