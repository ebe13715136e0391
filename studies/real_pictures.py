"""Data sets of real pictures, made from a clone of the public source: pictures as they are, labels in YOLO's format.

What is made does not depend on where the clone lies: the digest counts the pictures and the labels, nothing else.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studies.made_folder import make_folder


@dataclass(frozen=True)
class Picture:
    """A file of the source and its label text."""

    file: Path
    label: str

    def digest(self) -> bytes:
        """SHA-256 of the name, the picture and the label."""
        return hashlib.sha256(self.file.name.encode() + self.file.read_bytes() + self.label.encode()).digest()


@dataclass(frozen=True)
class Box:
    """A labelled rectangle in px: left, top, right, bottom."""

    label: int
    left: float
    top: float
    right: float
    bottom: float

    def line(self, width: int, height: int) -> str:
        """Return YOLO's line: class, centre x, centre y, width, height, as shares of the picture's sides."""
        x, y = (self.left + self.right) / 2 / width, (self.top + self.bottom) / 2 / height
        w, h = (self.right - self.left) / width, (self.bottom - self.top) / height
        return f"{self.label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}"


def label_text(boxes: Iterable[Box], width: int, height: int) -> str:
    """Return the label file of a picture. A box without an area (BCCD has two) is left out."""
    drawn = (box for box in boxes if box.right > box.left and box.bottom > box.top)
    return "".join(box.line(width, height) + "\n" for box in drawn)


def make_dataset(
    out: Path, splits: Mapping[str, Sequence[Picture]], names: Sequence[str], extra: str = "", source: str = ""
) -> Path:
    """Copy the splits into ``out`` unless they are there already, and return its data.yaml.

    ``extra`` is appended to data.yaml. Raises FileNotFoundError for a picture that is not in the clone, ValueError for
    a split without pictures, and FileExistsError when ``out`` holds other files.
    """
    empty = [split for split, pictures in splits.items() if not pictures]
    if empty:
        raise ValueError(f"no pictures for {', '.join(empty)}: expected a clone of {source}")
    content = {split: _digest(pictures) for split, pictures in splits.items()}

    def write(root: Path) -> dict[str, Any]:
        for split, pictures in splits.items():
            _write_split(root, split, pictures)
        paths = "".join(f"{split}: images/{split}\n" for split in splits)  # no root: the folder may move
        lines = "".join(f"  {index}: {name}\n" for index, name in enumerate(names))
        (root / "data.yaml").write_text(f"{paths}{extra}names:\n{lines}")
        return {"source": source, "content": content}

    make_folder(out, hashlib.sha256(repr((content, tuple(names), extra)).encode()).hexdigest(), write)
    return out / "data.yaml"


def _digest(pictures: Sequence[Picture]) -> str:
    return hashlib.sha256(b"".join(picture.digest() for picture in pictures)).hexdigest()


def _write_split(root: Path, split: str, pictures: Sequence[Picture]) -> None:
    images, labels = root / "images" / split, root / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for picture in pictures:
        shutil.copyfile(picture.file, images / picture.file.name)
        (labels / picture.file.with_suffix(".txt").name).write_text(picture.label)
