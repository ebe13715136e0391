"""Images of a data set by Ultralytics' own rules: which files a split has, and how each becomes an input.

One rule is ours: training on inputs of exactly (height, width), which its trainers do not know. They take one side and
train on squares, or with `rect=True` on the shape of each batch of images, unshuffled where shapes differ, and not on
the one that the network will get. Squares are the wrong images for a network that runs at 384 x 640: two fifths of each
would be grey padding, which the batch norms count and the steps pay for. So the data set of a fine-tune gives its
images as they are deployed: letterboxed into the rectangle, then augmented as ever.

Symbols: H, W height and width in px.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torchvision.datasets import ImageFolder
from ultralytics.data.augment import Compose, LetterBox, RandomPerspective
from ultralytics.data.base import BaseDataset
from ultralytics.data.utils import IMG_FORMATS
from ultralytics.engine import trainer as engine_trainer
from ultralytics.models.rtdetr.val import RTDETRDataset
from ultralytics.utils.patches import imread

from ultralytics_versions.parts import read_data

Pixels = npt.NDArray[np.uint8]
Size = int | tuple[int, int]
"""Of a network's input in px: the side of a square, or (height, width)."""

_FLAGS = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}


def sides(size: Size) -> tuple[int, int]:
    """Return (height, width)."""
    return (size, size) if isinstance(size, int) else size


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


class FitInside(LetterBox):
    """Letterbox an image into (H, W), and leave a mosaic, which is larger than any image, to be cropped."""

    def __call__(self, labels: dict[str, Any] | None = None, image: Any = None) -> Any:
        assert labels is not None and image is None  # of a chain of augmentations
        is_mosaic = max(labels["img"].shape[:2]) > max(self.new_shape)  # type: ignore[arg-type]  # two sides
        return labels if is_mosaic else super().__call__(labels)


def give_rectangles(dataset: Any, height: int, width: int) -> None:
    """Make an Ultralytics training data set, of max(H, W), yield images of (H, W). In place.

    RT-DETR stretches its images, to (H, W) then.
    """
    if isinstance(dataset, RTDETRDataset):
        dataset.imgsz = (height, width)
    shape = (height, width)
    dataset.build_transforms = partial(_built, dataset, dataset.build_transforms, shape)  # again as mosaics are closed
    dataset.transforms = _fitted(dataset.transforms, shape)


def _built(dataset: Any, build: Callable[..., Compose], shape: tuple[int, int], hyp: Any) -> Compose:
    """Build the augmentations, which reckon with one side, and fit them."""
    size, dataset.imgsz = dataset.imgsz, max(shape)
    try:
        return _fitted(build(hyp), shape)
    finally:
        dataset.imgsz = size


def _fitted(transforms: Compose, shape: tuple[int, int]) -> Compose:
    """Fit images into `shape` before each random perspective, which then keeps it."""
    for chain in list(_chains(transforms)):
        for place, step in reversed(list(enumerate(chain.transforms))):
            if isinstance(step, RandomPerspective):
                step.size = shape[::-1]
                chain.insert(place, FitInside(shape, auto=False, scaleup=False))
    return transforms


def _chains(chain: Any, seen: set[int] | None = None) -> Iterator[Compose]:
    """Yield a chain and those inside it, each once: mixed-in images have one of their own, or share the first."""
    seen = set() if seen is None else seen
    if not isinstance(chain, Compose) or id(chain) in seen:
        return
    seen.add(id(chain))
    yield chain
    for step in chain.transforms:
        yield from _chains(step, seen)
        yield from _chains(getattr(step, "pre_transform", None), seen)
