"""Tiny data sets for every task: bright rectangles on noise, two classes, made in milliseconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import yaml

CLASSES = ("dark", "bright")


def make_tiny_data(
    out: Path,
    task: str = "detect",
    images: int = 12,
    size: int | tuple[int, int] = 64,
    seed: int = 0,
    channels: int = 3,
) -> Path:
    """Write `images` training and half as many validation images; the path that Ultralytics takes as `data`.

    Args:
        size: the side of the images, or (height, width).
        channels: of more than four a picture has a page for each, as multispectral TIFF files do.
    """
    shape = (size, size) if isinstance(size, int) else size
    random = np.random.default_rng(seed)
    for split, count in (("train", images), ("val", max(4, images // 2))):
        for number in range(count):
            _write(out, task, split, number, (*shape, channels), random)
    if task == "classify":
        return out
    document: dict[str, object] = {"path": str(out), "train": "images/train", "val": "images/val"}
    document["names"] = dict(enumerate(CLASSES))
    if task == "pose":
        document["kpt_shape"] = [4, 3]
    if channels != 3:
        document["channels"] = channels
    (out / "data.yaml").write_text(yaml.safe_dump(document))
    return out / "data.yaml"


def _write(
    out: Path, task: str, split: str, number: int, shape: tuple[int, int, int], random: np.random.Generator
) -> None:
    image = random.integers(60, 120, shape, dtype=np.uint8)
    kind, side = number % 2, min(shape[:2])
    width, height = random.integers(side // 3, side // 2, 2)
    x, y = random.integers(0, shape[1] - width), random.integers(0, shape[0] - height)
    image[y : y + height, x : x + width] = 230 if kind else 10
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]]) / shape[1::-1]
    folder = out / split / CLASSES[kind] if task == "classify" else out / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    if shape[2] > 4:
        cv2.imwritemulti(
            str(folder / f"{number:03}.tiff"), [np.ascontiguousarray(image[..., c]) for c in range(shape[2])]
        )
    else:
        cv2.imwrite(str(folder / f"{number:03}.png"), image)
    if task != "classify":
        labels = out / "labels" / split
        labels.mkdir(parents=True, exist_ok=True)
        (labels / f"{number:03}.txt").write_text(f"{kind} " + " ".join(f"{v:.5f}" for v in _row(task, corners)) + "\n")


def _row(task: str, corners: npt.NDArray[np.float64]) -> list[float]:
    """One label of the task, after the class: box, polygon, box and keypoints, or four corners."""
    (left, top), (right, bottom) = corners[0], corners[2]
    box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
    if task == "pose":
        return [*box, *(value for corner in corners for value in (*corner, 2.0))]
    return box if task == "detect" else corners.ravel().tolist()
