"""Images of a data set by Ultralytics' own rules: which files a split has, and how each becomes an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torchvision.datasets import ImageFolder
from ultralytics.data.augment import LetterBox
from ultralytics.data.base import BaseDataset
from ultralytics.data.utils import IMG_FORMATS
from ultralytics.engine import trainer as engine_trainer
from ultralytics.utils.patches import imread

from ultralytics_versions.parts import read_data

Pixels = npt.NDArray[np.uint8]

_FLAGS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}


def checked_data(data: str | Path, task: str, split: str = "val") -> dict[str, Any]:
    """Read a data YAML, or a folder of class folders, as Ultralytics' trainers do; nothing is downloaded.

    By the readers that its trainers use: where those are replaced by safer ones, these are.

    Args:
        split: must exist; of a classifier, `val` is also found as `validation`, `valid` or `test`.

    Raises what Ultralytics raises.
    """
    readers: Any = engine_trainer
    if task == "classify":
        found: dict[str, Any] = readers.check_cls_dataset(str(data), split=split)
        return found
    return read_data(readers.check_det_dataset, data, split)


def split_files(said: Mapping[str, Any], split: str, task: str) -> list[str]:
    """Return the image files of a split of `checked_data`, sorted; empty if there are none.

    Raises FileNotFoundError: the split is neither a folder nor a list of images that can be read.
    """
    places = said.get(split)
    if not places:
        return []
    if task == "classify":
        found = ImageFolder(str(places), is_valid_file=_is_image, allow_empty=True)
        return sorted(file for file, _ in found.samples)
    return listed_images(places)


def listed_images(places: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the images of folders, with all below them, and of text files that list images. Raises as above."""
    everything: Any = SimpleNamespace(fraction=1.0, prefix="")
    try:
        return list(BaseDataset.get_img_files(everything, places))  # type: ignore[arg-type]
    except FileNotFoundError as error:
        if isinstance(error.__cause__, AssertionError):  # readable, and without images
            return []
        raise


def _is_image(file: str) -> bool:
    return file.rpartition(".")[-1].lower() in IMG_FORMATS


def read_image(file: str | Path, channels: int) -> Pixels | None:
    """Return the pixels (H, W, channels), BGR if there are three, as Ultralytics reads them; None if it cannot."""
    return imread(str(file), _FLAGS.get(channels, cv2.IMREAD_UNCHANGED))


def letterboxed(file: str | Path, fit: LetterBox, channels: int) -> Pixels | None:
    """Return an image as a validator prepares it: (channels, H, W), RGB if there are three; None if unreadable."""
    image = read_image(file, channels)
    if image is None:
        return None
    boxed = np.asarray(fit(image=image))
    planes = np.atleast_3d(boxed).transpose(2, 0, 1)
    return np.ascontiguousarray(planes[::-1] if channels == 3 else planes)
