"""Make the BCCD data set in YOLO's format from a clone of its source: blood smears, 640 x 480, three classes.

    git clone https://github.com/Shenggan/BCCD_Dataset
    python studies/bccd/make_data.py --source BCCD_Dataset

The split is the source's own (ImageSets/Main): 205 pictures to train, 87 to validate, 72 to test.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from xml.etree import ElementTree

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository
from studies.real_pictures import Box, Picture, label_text, make_dataset

SOURCE = "https://github.com/Shenggan/BCCD_Dataset"
NAMES = ("RBC", "WBC", "Platelets")
SPLITS = ("train", "val", "test")
SIDES = ("xmin", "ymin", "xmax", "ymax")


def picture_of(source: Path, stem: str) -> Picture:
    """Return a picture of the clone with the label text made from its Pascal VOC annotation."""
    root = ElementTree.parse(source / "BCCD" / "Annotations" / f"{stem}.xml").getroot()
    width, height = (int(root.findtext(f"size/{side}", "0")) for side in ("width", "height"))
    boxes = [_box(found) for found in root.iter("object")]
    return Picture(source / "BCCD" / "JPEGImages" / f"{stem}.jpg", label_text(boxes, width, height))


def _box(found: ElementTree.Element) -> Box:
    left, top, right, bottom = (float(found.findtext(f"bndbox/{side}", "0")) for side in SIDES)
    return Box(NAMES.index(found.findtext("name", "")), left, top, right, bottom)


def make_data(source: Path, out: Path) -> Path:
    """Make the data set in ``out`` unless it is there already; return its data.yaml. Errors: see ``make_dataset``."""
    lists = {split: source / "BCCD" / "ImageSets" / "Main" / f"{split}.txt" for split in SPLITS}
    stems = {split: sorted(path.read_text().split()) for split, path in lists.items()}
    pictures = {split: [picture_of(source, stem) for stem in found] for split, found in stems.items()}
    return make_dataset(out.resolve(), pictures, NAMES, source=SOURCE)


def main() -> None:
    """Make the data set and print the path of its data.yaml."""
    parser = argparse.ArgumentParser(description=f"Make the BCCD data set from a clone of {SOURCE}.")
    parser.add_argument("--source", type=Path, required=True, help="the clone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    print(make_data(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
