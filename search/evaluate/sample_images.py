"""Validation images with a model's predictions: base and trial, side by side in the dashboard.

Errors are only logged: samples are for display and must not fail a trial.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from objectives.image_size import Size, sides
from objectives.ultralytics_door import predictor_class, quiet
from pruning.checkpoints.checkpoint import load_model
from pruning.recovery.images import read_image
from search.config.inputs.dataset import LabelRules, open_dataset
from search.run_folder.atomic import write_atomic

FOLDER = "samples"
COUNT = 4
_SIDE, _LEAST = 512, 480
_QUALITY = 78
_log = logging.getLogger("search")

Image = npt.NDArray[np.uint8]


def draw_samples(weights: Path, data: str | Path, *, imgsz: Size, device: str, folder: Path) -> tuple[Path, ...]:
    """Write `folder`/0.jpg, 1.jpg, ...: the same validation images for every model of a study.

    Returns the written files; none if the images cannot be read or the model cannot predict.
    """
    try:
        model = load_model(weights)
        dataset = open_dataset(Path(data), LabelRules.of(model))
        read = (read_image(file, dataset.channels) for file in spread(dataset.files("val"), COUNT))
        images = [_enlarged(image) for image in read if image is not None]
        drawn = _predicted(model, images, imgsz, device)
    except Exception as error:
        _log.warning("no sample images for %s: %s", weights, error)
        return ()
    paths = [folder / f"{number}.jpg" for number in range(len(drawn))]
    for path, image in zip(paths, drawn, strict=True):
        write_atomic(path, _jpeg(image), durable=False)
    return tuple(paths)


def spread(files: Sequence[str], count: int) -> list[str]:
    """Return `count` files at even distances, so as not to show only neighbouring frames of one video."""
    step = max(len(files) // count, 1)
    return list(files[::step][:count])


def _predicted(model: Any, images: list[Image], imgsz: Size, device: str) -> list[Image]:
    with quiet():
        predictor = predictor_class(model)(
            overrides={
                "imgsz": list(sides(imgsz)),
                "device": device,
                "verbose": False,
                "save": False,
                "mode": "predict",
                "rect": isinstance(imgsz, int),  # two sides are what the network gets
            }
        )
        predictor.setup_model(model=model, verbose=False)
        return [_plotted(predictor(image, stream=False)) for image in images]


def _plotted(results: Iterable[Any]) -> Image:
    drawn: Image = next(iter(results)).plot(conf=True, line_width=2)
    return drawn


def _enlarged(image: Image) -> Image:
    """Enlarge a small image by a whole factor, so that boxes of two pixels stay visible."""
    factor = max(1, round(_LEAST / max(image.shape[:2])))
    large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return np.atleast_3d(np.asarray(large, dtype=np.uint8))  # OpenCV drops the dimension of one channel


def _jpeg(image: Image) -> bytes:
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    return bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])
