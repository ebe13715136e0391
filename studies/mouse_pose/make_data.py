"""Make a pose data set in YOLO's format from DeepLabCut's example project: a mouse in an open field, four keypoints.

    git clone --filter=blob:none --sparse https://github.com/DeepLabCut/DeepLabCut
    git -C DeepLabCut sparse-checkout set examples/openfield-Pranav-2018-10-30
    python studies/mouse_pose/make_data.py --source DeepLabCut

116 frames of one video, 640 x 480. The last 23 validate: neighbouring frames are nearly the same picture. The source
labels points only, so the box is drawn round them.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository
from studies.real_pictures import Box, Picture, make_dataset

SOURCE = "https://github.com/DeepLabCut/DeepLabCut"
FOLDER = Path("examples") / "openfield-Pranav-2018-10-30" / "labeled-data" / "m4s1"
POINTS = ("snout", "leftear", "rightear", "tailbase")
WIDTH, HEIGHT = 640, 480
VAL = 23
MARGIN = 0.3
"""Of the longer side of the points' own box: the animal is wider than they are."""
POSE = f"kpt_shape: [{len(POINTS)}, 3]\nflip_idx: [0, 2, 1, 3]\n"


def pictures_of(source: Path) -> list[Picture]:
    """Return the frames in order, with their label text."""
    folder = source / FOLDER
    with (folder / "CollectedData_Pranav.csv").open() as file:
        rows = list(csv.reader(file))[3:]  # scorer, body parts, coordinates
    return [Picture(folder / Path(row[0]).name, label_of(list(map(float, row[1:])))) for row in sorted(rows)]


def label_of(numbers: list[float]) -> str:
    """Return the line of a frame: class, box, then x, y and "visible" of each point."""
    xs, ys = numbers[0::2], numbers[1::2]
    margin = MARGIN * max(max(xs) - min(xs), max(ys) - min(ys))
    left, top = max(0.0, min(xs) - margin), max(0.0, min(ys) - margin)
    right, bottom = min(float(WIDTH), max(xs) + margin), min(float(HEIGHT), max(ys) + margin)
    points = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f} 2" for x, y in zip(xs, ys, strict=True))
    return f"{Box(0, left, top, right, bottom).line(WIDTH, HEIGHT)} {points}\n"


def make_data(source: Path, out: Path) -> Path:
    """Make the data set in ``out`` unless it is there already; return its data.yaml. Errors: see ``make_dataset``."""
    found = pictures_of(source)
    splits = {"train": found[:-VAL], "val": found[-VAL:]}
    return make_dataset(out.resolve(), splits, ("mouse",), extra=POSE, source=SOURCE)


def main() -> None:
    """Make the data set and print the path of its data.yaml."""
    parser = argparse.ArgumentParser(description=f"Make the pose data set from a clone of {SOURCE}.")
    parser.add_argument("--source", type=Path, required=True, help="the clone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    print(make_data(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
