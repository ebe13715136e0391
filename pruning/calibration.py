"""Batch-norm re-calibration: statistics of the pruned network, measured without any training.

Removing channels changes what every later layer sees, so the running mean and variance of the base are wrong for the
pruned network. Measuring them again on a few hundred images repairs most of what pruning broke and makes scores without
training comparable (EagleEye, Li et al., ECCV 2020, arXiv 2007.02491).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.data.augment import LetterBox
from ultralytics.data.loaders import LoadImagesAndVideos
from ultralytics.data.utils import check_cls_dataset, check_det_dataset

from pruning.errors import RecoveryError


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace all batch-norm statistics of `model` by averages over `batches` ((B, 3, H, W), 0 to 1), in place."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    was_training = model.training
    device = next(model.parameters()).device
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over all batches
        norm.train()
    try:
        with torch.no_grad():
            for batch in batches:
                model(batch.to(device))
    finally:
        model.train(was_training)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def calibration_batches(
    data: str | Path, imgsz: int, count: int = 256, batch: int = 32, task: str = "detect", seed: int = 0
) -> Iterator[Tensor]:
    """`count` training images, chosen by `seed`, letterboxed to (B, 3, imgsz, imgsz), RGB, 0 to 1.

    Raises RecoveryError when the data set has no training images.
    """
    files = _training_images(data, task)
    if not files:
        raise RecoveryError(f"{data}: no training images to calibrate on")
    chosen = np.random.default_rng(seed).permutation(len(files))[:count]
    resize = LetterBox((imgsz, imgsz), auto=False)
    for start in range(0, len(chosen), batch):
        part = chosen[start : start + batch]
        if len(part) > 1 or start == 0:  # a last batch of one image has no useful statistics
            yield torch.stack([_image(files[i], resize) for i in part])


def _training_images(data: str | Path, task: str) -> list[str]:
    if task == "classify":
        root = check_cls_dataset(str(data))["train"]
        return sorted(str(p) for p in Path(root).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".bmp"))
    paths = check_det_dataset(str(data), autodownload=False)["train"]
    found = [
        file for path in (paths if isinstance(paths, list) else [paths]) for file in LoadImagesAndVideos(path).files
    ]
    return sorted(map(str, found))


def _image(file: str, resize: LetterBox) -> Tensor:
    image = cv2.imread(file)
    if image is None:
        raise RecoveryError(f"{file}: not an image that OpenCV can read")
    boxed = np.asarray(resize(image=image))
    rgb = np.ascontiguousarray(boxed[..., ::-1].transpose(2, 0, 1))
    return torch.from_numpy(rgb).float() / 255
