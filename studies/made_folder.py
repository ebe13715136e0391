"""A folder that a script makes: whole or absent, made once, never over somebody else's files; and a data set in it."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import cv2

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


class Scene(Protocol):
    """An image (H, W, 3) uint8 in BGR, and its lines in the YOLO format."""

    @property
    def image(self) -> Any: ...
    def label(self) -> str: ...


def write_dataset(root: Path, splits: Mapping[str, Iterable[Scene]], names: Sequence[str]) -> dict[str, str]:
    """Write images, labels and data.yaml into ``root``; return the sha256 of what each split holds."""
    content = {split: _write_split(root, split, scenes) for split, scenes in splits.items()}
    paths = "".join(f"{split}: images/{split}\n" for split in splits)  # no root: the folder may move
    lines = "".join(f"  {index}: '{name}'\n" for index, name in enumerate(names))
    (root / "data.yaml").write_text(f"{paths}names:\n{lines}")
    return content


def _write_split(root: Path, split: str, scenes: Iterable[Scene]) -> str:
    images, labels = root / "images" / split, root / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    sha = hashlib.sha256()
    for index, scene in enumerate(scenes):
        cv2.imwrite(str(images / f"{index:05d}.png"), scene.image)
        (labels / f"{index:05d}.txt").write_text(scene.label())
        sha.update(scene.image.tobytes() + scene.label().encode())
    return sha.hexdigest()
