"""Paths as people write them: what cannot be a path names no file, instead of an error of the system."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from objectives.errors import LatencyError
from objectives.runtimes.names import COMMAND, command_words, is_command


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


def with_program(data: Mapping[str, Any], key: str, folder: Path) -> dict[str, Any]:
    """Return `data` with the program of a runtime `command:./time.sh` as it lies in `folder`, wherever one starts."""
    runtime = data.get(key)
    if not isinstance(runtime, str) or not is_command(runtime):
        return dict(data)
    try:
        program, *rest = command_words(runtime)
    except LatencyError:  # the section's own check says what is wrong
        return dict(data)
    path = folder / program
    if "/" not in program or not is_file(path):
        return dict(data)
    return {**data, key: COMMAND + shlex.join([str(path.resolve()), *rest])}
