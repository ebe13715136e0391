"""Training images for INT8 calibration: evenly spread, in a fixed order.

Training images, since ranges fitted to the validation images would bias the figures measured on them. Evenly spread,
since data sets are often sorted by content. No randomness: the same call gives the same file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from objectives.image_size import Size
from search.config.inputs.dataset import Dataset, LabelRules, open_dataset
from search.export.parity import Array, letterboxed

IMAGES = 128
"""Calibration images of an artefact that is delivered or scored."""


def calibration_files(data: Path, count: int = IMAGES, rules: LabelRules | None = None) -> tuple[Path, ...]:
    """Return at most `count` training images, evenly spread over the sorted list, none of them faulty.

    Args:
        rules: of the model that is quantised; a detector's if None.

    Raises:
        ConfigError: the data set cannot be read.
    """
    return _spread(open_dataset(data, rules or LabelRules()), count)


def _spread(dataset: Dataset, count: int) -> tuple[Path, ...]:
    return dataset.usable(dataset.files("train"), count)


def calibration_arrays(files: Sequence[Path], imgsz: Size, task: str, channels: int = 3) -> Iterator[Array]:
    """Yield the images as model inputs: (1, channels, height, width) float32, 0 to 1. Unreadable files are left out."""
    return _cropped(files, imgsz) if task == "classify" else letterboxed(files, imgsz, channels)


def _cropped(files: Sequence[Path], imgsz: Size) -> Iterator[Array]:
    from PIL import Image
    from ultralytics.data.augment import classify_transforms

    transform: Any = classify_transforms(imgsz)
    for file in files:
        with Image.open(file) as image:
            yield transform(image.convert("RGB"))[None].numpy()


def calibration_set(data: Path, folder: Path, count: int = IMAGES, rules: LabelRules | None = None) -> Path:
    """Link these images to a data set for exporters that read one themselves; return its `data` argument.

    Both its splits are the same images. The labels' cache of the user's data is left alone.
    """
    dataset = open_dataset(data, rules or LabelRules())
    files = _spread(dataset, count)
    if dataset.rules.task == "classify":
        for split in ("train", "val"):
            _link(files, folder / split, by_class=True)
        return folder
    _link(files, folder / "images", by_class=False)
    document = {"path": str(folder), "train": "images", "val": "images", **dataset.described}
    (folder / "data.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder / "data.yaml"


def _link(files: Sequence[Path], folder: Path, *, by_class: bool) -> None:
    for number, file in enumerate(files):
        place = folder / file.parent.name if by_class else folder
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:05}{file.suffix}").symlink_to(file.resolve())
