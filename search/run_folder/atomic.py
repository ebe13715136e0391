"""Atomic writing of files, safe against power cuts."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from search.run_folder.crash_points import reached


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True, mode: int = 0o644) -> None:
    """Replace `path` by `content`: write a temporary file, fsync, rename, and fsync the folder.

    Args:
        durable: False skips both fsyncs, for files that can be derived from others.
        mode: who may read and write the file.

    Raises:
        IsADirectoryError: there is a folder of that name.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, mode)
        reached("file.part")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    reached("file.renamed")
    if durable:
        _sync_folder(path.parent)


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format a table as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((columns, *rows))
    return text.getvalue()


def write_json(path: Path, content: Any, *, durable: bool = True, indent: int | None = 1) -> None:
    """Write JSON by `write_atomic`. Raises ValueError for NaN and infinity, which other readers reject.

    Args:
        indent: None is ten times faster, for a large file that nobody reads as text.
    """
    write_atomic(path, json.dumps(content, indent=indent, allow_nan=False) + "\n", durable=durable)


def read_mapping(path: Path) -> dict[str, Any] | None:
    """Read a display-only JSON file; None if missing or invalid."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
