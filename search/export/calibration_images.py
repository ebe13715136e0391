"""Training images for INT8 calibration: evenly spread, in a fixed order.

Training images, since ranges fitted to the validation images would bias the figures measured on them. Evenly spread,
since data sets are often sorted by content. No randomness: the same call gives the same file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from search.config.inputs.dataset import read_split, spread
from search.config.inputs.dataset_yaml import read_data_yaml
from search.export.parity import Array, letterboxed

IMAGES = 128
"""Calibration images of an artefact that is delivered or scored."""


def calibration_files(data: Path, count: int = IMAGES) -> tuple[Path, ...]:
    """Return at most `count` training images, evenly spread over the sorted list.

    Raises:
        ConfigError: the data set cannot be read.
    """
    return spread(sorted(read_split(data, "train").images), count)


def calibration_arrays(files: Sequence[Path], imgsz: int, task: str, channels: int = 3) -> Iterator[Array]:
    """Yield the images as model inputs: (1, channels, imgsz, imgsz) float32, 0 to 1. Unreadable files are left out."""
    if channels != 3:
        rng = np.random.default_rng(0)
        yield from (rng.random((1, channels, imgsz, imgsz), dtype=np.float32) for _ in files)
        return
    yield from _cropped(files, imgsz) if task == "classify" else letterboxed(files, imgsz)


def _cropped(files: Sequence[Path], imgsz: int) -> Iterator[Array]:
    from PIL import Image
    from ultralytics.data.augment import classify_transforms

    transform: Any = classify_transforms(imgsz)
    for file in files:
        with Image.open(file) as image:
            yield transform(image.convert("RGB"))[None].numpy()


def calibration_set(data: Path, folder: Path, count: int = IMAGES) -> Path:
    """Link these images to a data set for exporters that read one themselves; return its `data` argument.

    Both its splits are the same images. The labels' cache of the user's data is left alone.
    """
    files = calibration_files(data, count)
    if data.is_dir():
        for split in ("train", "val"):
            _link(files, folder / split, by_class=True)
        return folder
    _link(files, folder / "images", by_class=False)
    kept = {key: value for key, value in _said(data).items() if key in ("names", "kpt_shape", "flip_idx", "channels")}
    document = {"path": str(folder), "train": "images", "val": "images", **kept}
    (folder / "data.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder / "data.yaml"


def _said(data: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_data_yaml(data)
    return found


def _link(files: Sequence[Path], folder: Path, *, by_class: bool) -> None:
    for number, file in enumerate(files):
        place = folder / file.parent.name if by_class else folder
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:05}{file.suffix}").symlink_to(file.resolve())
