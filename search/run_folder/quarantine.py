"""Quarantine of damaged files: renamed, so that they are neither read again nor lost."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import Any

PARTS = ("-wal", "-shm")
"""What belongs to a SQLite file and would be read into the next one of its name."""
_log = logging.getLogger("search")


def set_aside(path: Path) -> Path:
    """Rename `path` to the first free of NAME.corrupt, NAME.corrupt-2, ...; return the new path."""
    names = itertools.chain([".corrupt"], (f".corrupt-{number}" for number in itertools.count(2)))
    target = next(place for end in names if not (place := path.with_name(path.name + end)).exists())
    path.rename(target)
    for end in PARTS:
        beside = path.with_name(path.name + end)
        if beside.exists():
            beside.rename(target.with_name(target.name + end))
    _log.warning("%s is damaged, it is %s now", path, target.name)
    return target


def derived_json(path: Path) -> dict[str, Any]:
    """Load a regenerable JSON file; {} if missing; quarantine it if corrupt."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    except FileNotFoundError:
        return {}
    except ValueError:
        pass
    set_aside(path)
    return {}
