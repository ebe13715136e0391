"""Paths as people write them: what cannot be a path names no file, instead of an error of the system."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def exists(path: Path) -> bool:
    """Return whether there is such a file or folder; False for a text that cannot be a path (too long, NUL)."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Return whether there is such a regular file (no device, no pipe); False for a text that cannot be a path."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def expanded(path: Path, folder: Path = Path()) -> Path:
    """Return the path with `~` replaced by the user's folder, as a shell does."""
    if not exists(folder / path):  # a file may be called ~
        with suppress(RuntimeError):  # ~nobody: no such user
            return path.expanduser()
    return path


def absolute(path: Path, folder: Path) -> Path:
    """Return the path from `folder`, with `~` and links followed as far as they lead anywhere."""
    path = expanded(path, folder)
    try:
        return Path(os.path.realpath(folder / path))
    except ValueError:  # NUL, or half a character: no file has such a name
        return folder / path
