"""Training on inputs of exactly (height, width), which Ultralytics' trainers do not know.

Its trainer takes one side: it trains on squares, or with `rect=True` on the shape of each batch of images, unshuffled
where shapes differ, and not on the one that the network will get. Squares are the wrong images for a network that runs
at 384 x 640: two fifths of each would be grey padding, which the batch norms count and the steps pay for. So the data
set of a fine-tune gives its images as they are deployed: letterboxed into the rectangle, then augmented as ever.

Symbols: H, W height and width in px.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ultralytics.data.augment import Compose, LetterBox, RandomPerspective
from ultralytics.models.rtdetr.val import RTDETRDataset


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
    dataset.build_transforms = partial(_built, dataset.build_transforms, shape)  # again where mosaics are closed
    dataset.transforms = _fitted(dataset.transforms, shape)


def _built(build: Callable[..., Compose], shape: tuple[int, int], hyp: Any) -> Compose:
    return _fitted(build(hyp), shape)


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
