"""A folder that a script makes: whole or absent, made once, never over somebody else's files."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MARKER = "made.json"


@contextmanager
def _workroom(out: Path) -> Iterator[Path]:
    """Lend an empty folder on the same file system as ``out``; it is gone afterwards, whatever happens."""
    out.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def read_marker(out: Path) -> dict[str, Any]:
    """Return what ``out`` was made from: digest, recipe, content; empty unless it is a finished data set."""
    try:
        made: dict[str, Any] = json.loads((out / MARKER).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return made


def _is_made(out: Path, digest: str) -> bool:
    return read_marker(out).get("digest") == digest


def _swap_in(new: Path, out: Path, room: Path, digest: str) -> None:
    """Put ``new`` at ``out``; what was there moves to ``room``, and is deleted with it."""
    try:
        if out.exists():
            out.rename(room / "old")
        new.rename(out)
    except OSError:  # a process beside us put its own there between our two lines
        if not _is_made(out, digest):
            raise


def _refuse_foreign(out: Path) -> None:
    """Raise FileExistsError when ``out`` holds something that no script here made."""
    if out.exists() and not read_marker(out) and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out}: expected nothing or a data set with {MARKER}, found other files")


def make_folder(out: Path, digest: str, write: Callable[[Path], dict[str, Any]]) -> None:
    """Fill ``out`` by ``write`` unless it was made with the same ``digest`` already.

    ``write`` fills an empty folder and returns what the marker says beside the digest. A folder with another
    digest is replaced. ``out`` is whole or absent, also after an interruption. Raises FileExistsError when
    ``out`` holds other files.
    """
    if _is_made(out, digest):
        return
    _refuse_foreign(out)
    with _workroom(out) as room:
        new = room / "new"
        new.mkdir()
        made = {"digest": digest, **write(new)}
        (new / MARKER).write_text(json.dumps(made, indent=2) + "\n")  # last: it says that the rest is there
        if not _is_made(out, digest):  # else a process beside us was faster, with the same bytes
            _swap_in(new, out, room, digest)
