"""Read echocardiogram clips from a folder laid out as EchoNet-Dynamic: FileList.csv and Videos/*.avi.

EchoNet-Dynamic (Ouyang et al., Nature 580, 2020; https://echonet.github.io/dynamic/) has 10,030 apical four-chamber
clips. FileList.csv has a row per clip; FileName, EF (ejection fraction in per cent) and Split (TRAIN, VAL or TEST) are
read. Symbols: N clips, T frames of each, S side in px; frames are grey, uint8.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

LIST, VIDEOS = "FileList.csv", "Videos"
COLUMNS = ("FileName", "EF", "Split")


@dataclass(frozen=True)
class Row:
    """One line of FileList.csv."""

    video: Path
    ef: float
    split: str


@dataclass(frozen=True)
class Clips:
    """The clips of a split: frames (N, T, S, S) and ejection fractions (N,) in per cent."""

    frames: Frames
    ef: Floats

    def __len__(self) -> int:
        return len(self.ef)


def read_list(root: Path, split: str | None = None) -> list[Row]:
    """Rows of FileList.csv, of one split (in any case) or all.

    Raises:
        FileNotFoundError: no FileList.csv in `root`.
        ValueError: a column or a number is missing; names the line.
    """
    path = root / LIST
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the folder of EchoNet-Dynamic, or of make_clips.py")
    with path.open(newline="") as file:
        table = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
        if missing:
            raise ValueError(f"{path} has no column {missing[0]}; expected {', '.join(COLUMNS)}")
        rows = [_row(root, path, number, line) for number, line in enumerate(table, 2)]
    return [row for row in rows if split is None or row.split == split.upper()]


def _row(root: Path, path: Path, number: int, line: dict[str, str]) -> Row:
    try:
        ef = float(line["EF"])
    except ValueError as error:
        raise ValueError(f"{path} line {number}: EF is {line['EF']!r}, expected per cent") from error
    if not 0 <= ef <= 100:
        raise ValueError(f"{path} line {number}: EF is {ef}, expected 0 to 100")
    name = line["FileName"]  # the published list leaves the suffix out
    return Row(root / VIDEOS / (name if name.endswith(".avi") else f"{name}.avi"), ef, line["Split"].upper())


def read_video(path: Path, frames: int, size: int) -> Frames:
    """`frames` frames of a video at even distances, grey, (T, S, S). Raises ValueError for a file without frames."""
    found = list(_decoded(path))
    if not found:
        raise ValueError(f"{path} cannot be read as a video")
    chosen = np.linspace(0, len(found) - 1, frames).round().astype(int)
    resized = [cv2.resize(found[i], (size, size), interpolation=cv2.INTER_AREA) for i in chosen]
    return np.stack(resized).astype(np.uint8)


def _decoded(path: Path) -> Iterator[Frames]:
    video = cv2.VideoCapture(str(path))
    try:
        while True:
            is_there, image = video.read()
            if not is_there:
                return
            yield np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
    finally:
        video.release()


def read_clips(root: Path, split: str, frames: int, size: int) -> Clips:
    """All clips of a split.

    Raises:
        FileNotFoundError, ValueError: as `read_list` and `read_video`; or the split is empty.
    """
    rows = read_list(root, split)
    if not rows:
        raise ValueError(f"{root / LIST} has no clip of the split {split.upper()}")
    videos = np.stack([read_video(row.video, frames, size) for row in rows])
    return Clips(videos, np.array([row.ef for row in rows], dtype=np.float32))
