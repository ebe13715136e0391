"""Make the DeepPCB data set in YOLO's format from a clone of its source: circuit boards, six kinds of defects.

    git clone https://github.com/tangsanli5201/DeepPCB
    python studies/pcb/make_data.py --source DeepPCB

Pictures are 640 x 640. Of the source's 1,000 to train with, 200 drawn by a fixed seed validate; its 500
test pictures test.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository
from studies.real_pictures import Box, Picture, label_text, make_dataset

SOURCE = "https://github.com/tangsanli5201/DeepPCB"
NAMES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
SIDE = 640
VAL = 200


def pictures_of(source: Path, name: str) -> list[Picture]:
    """Return the pictures that a list of the clone names, ordered by name; each line names a picture and its boxes."""
    lines = (source / "PCBData" / f"{name}.txt").read_text().split("\n")
    found = [_picture(source / "PCBData", *line.split()) for line in lines if line.strip()]
    return sorted(found, key=lambda picture: picture.file.name)


def _picture(root: Path, image: str, label: str) -> Picture:
    boxes = [_box(line) for line in (root / label).read_text().splitlines() if line.strip()]
    tested = root / image.replace(".jpg", "_test.jpg")  # beside it lies the template without defects
    return Picture(tested, label_text(boxes, SIDE, SIDE))


def _box(line: str) -> Box:
    left, top, right, bottom, kind = map(int, line.split())
    return Box(kind - 1, left, top, right, bottom)


def make_data(source: Path, out: Path) -> Path:
    """Make the data set in ``out`` unless it is there already; return its data.yaml. Errors: see ``make_dataset``."""
    order = pictures_of(source, "trainval")
    random.Random(0).shuffle(order)
    held = {picture.file.name for picture in order[:VAL]}
    by_name = sorted(order, key=lambda picture: picture.file.name)
    splits = {
        "train": [picture for picture in by_name if picture.file.name not in held],
        "val": [picture for picture in by_name if picture.file.name in held],
        "test": pictures_of(source, "test"),
    }
    return make_dataset(out.resolve(), splits, NAMES, source=SOURCE)


def main() -> None:
    """Make the data set and print the path of its data.yaml."""
    parser = argparse.ArgumentParser(description=f"Make the DeepPCB data set from a clone of {SOURCE}.")
    parser.add_argument("--source", type=Path, required=True, help="the clone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    print(make_data(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
