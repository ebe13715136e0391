"""Make the ELPV data set in Ultralytics' form of a classification: photographs of solar cells, intact or defective.

    pip install elpv-dataset
    python studies/solar_cells/make_data.py

The 401 cells of which the experts were not certain are left out; of the others every fifth, drawn by a fixed seed,
validates. The pictures lie in the package, nothing is downloaded.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib.util
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository
from studies.made_folder import make_folder

CLASSES = {"0.0": "intact", "1.0": "defective"}
VAL_SHARE = 0.2


def cells(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield the pictures of which the experts were certain, with their class."""
    with (root / "labels.csv").open() as file:
        for name, probability, _ in csv.reader(file, delimiter=" ", skipinitialspace=True):
            if probability in CLASSES:
                yield root / name, CLASSES[probability]


def source() -> Path:
    """Return the folder of the installed package. Raises FileNotFoundError where it is not installed."""
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise FileNotFoundError("elpv_dataset is not installed: pip install elpv-dataset")
    return Path(found.origin).parent / "data"


def make_data(out: Path) -> Path:
    """Make the data set in ``out`` unless it is there already; return the folder.

    Raises FileNotFoundError where the package or a picture of it is missing, ValueError for too few pictures to split,
    and FileExistsError when ``out`` holds other files.
    """
    found = sorted(cells(source()))
    random.Random(0).shuffle(found)
    held = round(len(found) * VAL_SHARE)
    splits = {"val": sorted(found[:held]), "train": sorted(found[held:])}
    if not all(splits.values()):
        raise ValueError(f"{len(found)} pictures: expected those of the package elpv-dataset")
    content = {
        split: hashlib.sha256(b"".join(path.read_bytes() + name.encode() for path, name in rows)).hexdigest()
        for split, rows in splits.items()
    }

    def write(root: Path) -> dict[str, Any]:
        for split, rows in splits.items():
            for path, name in rows:
                (root / split / name).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, root / split / name / path.name)
        return {"source": "elpv-dataset (PyPI)", "content": content}

    out = out.resolve()
    make_folder(out, hashlib.sha256(repr(content).encode()).hexdigest(), write)
    return out


def main() -> None:
    """Make the data set and print its folder."""
    parser = argparse.ArgumentParser(description="Make the ELPV data set from the package elpv-dataset.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    print(make_data(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
