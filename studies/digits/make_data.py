"""Make the data of the bundled study: handwritten digits on photographs, in YOLO's format.

The ink comes from scikit-learn's real handwritten digits (``load_digits``, 8 x 8), the background from its
two real photographs (``load_sample_images``). Train and val share neither a digit sample nor a pixel of a
photograph. Every scene is drawn from a generator of its own, seeded by (seed, split, index): scene 7 stays
scene 7 when more are asked for.

Symbols: S side of a scene in px (``imgsz``), N digits in it. Images are (S, S, 3) uint8, masks (h, w) float32
in [0, 1], boxes (N, 4) in px as left, top, right, bottom, half-open: a box ends where the ink's last pixel
ends.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits, load_sample_images

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository: the studies share a maker of folders
from studies.made_folder import make_folder, write_dataset

Float = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPLITS = ("train", "val")
NAMES = tuple("0123456789")
VAL_DIGITS = 0.25  # share of the digit samples that only val sees
VAL_PHOTO = 0.30  # share of each photograph's width, at its right edge, that only val sees
INK = 0.5  # a pixel is ink where the mask is at least this


@dataclass(frozen=True)
class Recipe:
    """What decides the scenes. Lengths are shares of the scene's side, so that ``imgsz`` only rescales."""

    train: int = 1200
    val: int = 300
    imgsz: int = 128
    seed: int = 0
    digits: tuple[int, int] = (1, 6)  # per scene, both ends included
    height: tuple[float, float] = (0.11, 0.44)  # of the 8 x 8 cell: 14 to 56 px at 128
    rotate_deg: float = 15.0
    shear: float = 0.2
    overlap: float = 0.25  # largest IoU of two boxes
    contrast: tuple[float, float] = (30.0, 130.0)  # ink against its surroundings, in grey levels
    opacity: tuple[float, float] = (0.65, 1.0)
    blur: tuple[float, float] = (0.0, 0.008)  # sigma
    noise: tuple[float, float] = (0.0, 14.0)  # sigma, in grey levels

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn: no scenes, or scenes so small that a digit has no ink."""
        if min(self.train, self.val) < 1 or self.imgsz < 64:
            found = f"train={self.train}, val={self.val}, imgsz={self.imgsz}"
            raise ValueError(f"expected 1 scene or more in each split and 64 px or more, found {found}")

    def digest(self) -> str:
        """Identify the recipe together with the code that follows it (hex, 64 characters)."""
        text = json.dumps(asdict(self), sort_keys=True).encode()
        return hashlib.sha256(text + Path(__file__).read_bytes()).hexdigest()


@dataclass(frozen=True)
class Scene:
    """One drawn image (BGR) and its N digits: indices into ``load_digits``, classes, boxes, masks (S, S)."""

    image: Image
    samples: Ints
    classes: Ints
    boxes: Ints
    masks: tuple[Float, ...]

    def label(self) -> str:
        """Return YOLO's label text: class, centre x, centre y, width, height, as shares of the side."""
        side = self.image.shape[0]
        rows = []
        for name, (left, top, right, bottom) in zip(self.classes, self.boxes, strict=True):
            shape = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            rows.append(" ".join([str(name), *(f"{value / side:.6f}" for value in shape)]))
        return "\n".join(rows) + "\n"


@cache
def _digits() -> tuple[Float, Ints]:
    """Return scikit-learn's digits: ink (1797, 8, 8) in [0, 1] and classes (1797,)."""
    bunch = load_digits()
    return (bunch.images / 16).astype(np.float32), bunch.target.astype(np.int64)


@cache
def _photos() -> tuple[Image, ...]:
    """Return scikit-learn's two photographs, (427, 640, 3) uint8 each, in BGR."""
    return tuple(np.ascontiguousarray(photo[..., ::-1]) for photo in load_sample_images().images)


def digit_samples(split: str, seed: int) -> Ints:
    """Return the indices into ``load_digits`` that a split may draw; those of train and val are disjoint."""
    total = len(_digits()[1])
    order = np.random.default_rng([seed, len(SPLITS)]).permutation(total)
    cut = round(total * VAL_DIGITS)
    return np.sort(order[:cut] if split == "val" else order[cut:])


def photo_columns(split: str, width: int) -> tuple[int, int]:
    """Return the half-open range of a photograph's columns (px) that a split may show."""
    cut = round(width * (1 - VAL_PHOTO))
    return (cut, width) if split == "val" else (0, cut)


def background(rng: np.random.Generator, split: str, side: int) -> Image:
    """Return a random square crop of the split's part of a photograph, resized to (side, side, 3)."""
    photo = _photos()[rng.integers(len(_photos()))]
    start, stop = photo_columns(split, photo.shape[1])
    crop = int(rng.integers(90, min(stop - start, photo.shape[0])))
    x, y = rng.integers(start, stop - crop + 1), rng.integers(photo.shape[0] - crop + 1)
    shrunk = cv2.resize(photo[y : y + crop, x : x + crop], (side, side), interpolation=cv2.INTER_AREA)
    flipped = shrunk[:, ::-1] if rng.random() < 0.5 else shrunk
    return np.ascontiguousarray(flipped, dtype=np.uint8)


def ink_mask(rng: np.random.Generator, cell: Float, height: float, recipe: Recipe) -> Float:
    """Draw an 8 x 8 cell about ``height`` px tall, turned, sheared, cut to its ink: (h, w) in [0, 1]."""
    scale = height / 8
    stretch = scale * rng.uniform(0.85, 1.2)
    angle = np.deg2rad(rng.uniform(-recipe.rotate_deg, recipe.rotate_deg))
    shear = rng.uniform(-recipe.shear, recipe.shear)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[stretch, shear * scale], [0.0, scale]])
    canvas = int(np.ceil(height * 2))
    shift = canvas / 2 - linear @ np.array([3.5, 3.5])
    matrix = np.column_stack([linear, shift])
    smooth = cv2.warpAffine(cell, matrix, (canvas, canvas), flags=cv2.INTER_CUBIC)
    mask = np.clip((smooth - 0.2) / 0.5, 0, 1).astype(np.float32)
    ys, xs = np.nonzero(mask >= INK)
    cut: Float = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    return cut


def overlap(box: Ints, others: Ints) -> float:
    """Return the largest IoU of one box (4,) with any of the others (N, 4); 0 without others."""
    if not len(others):
        return 0.0
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = size.clip(min=0).prod(1)
    joint = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - shared
    return float((shared / joint).max())


def place(rng: np.random.Generator, shape: tuple[int, ...], taken: Ints, recipe: Recipe) -> Ints | None:
    """Find a box (4,) for ``shape`` (h, w) that overlaps the taken (N, 4) little; None after 20 tries."""
    height, width = shape
    for _ in range(20):
        x, y = rng.integers(recipe.imgsz - width + 1), rng.integers(recipe.imgsz - height + 1)
        box = np.array([x, y, x + width, y + height], dtype=np.int64)
        if overlap(box, taken) <= recipe.overlap:
            return box
    return None


def ink_colour(rng: np.random.Generator, under: Float, recipe: Recipe) -> Float:
    """Choose a BGR colour (3,) that differs from ``under`` (3,) by a random contrast, darker or lighter."""
    step = rng.uniform(*recipe.contrast)
    grey = float(under.mean())
    up = rng.random() < 0.5 if step <= grey <= 255 - step else grey < 127.5
    tint = rng.normal(0, 35, 3)
    colour: Float = np.clip(grey + (step if up else -step) + tint - tint.mean(), 0, 255).astype(np.float32)
    return colour


def paint(rng: np.random.Generator, canvas: Float, mask: Float, box: Ints, recipe: Recipe) -> None:
    """Lay one digit's ink over the canvas (S, S, 3), in place."""
    left, top, right, bottom = box
    patch = canvas[top:bottom, left:right]
    alpha = mask[..., None] * rng.uniform(*recipe.opacity)
    patch += alpha * (ink_colour(rng, patch.mean((0, 1)), recipe) - patch)


def weather(rng: np.random.Generator, canvas: Float, recipe: Recipe) -> Image:
    """Blur, then add noise: (S, S, 3) float32 to uint8."""
    sigma = rng.uniform(*recipe.blur) * recipe.imgsz
    soft = cv2.GaussianBlur(canvas, (0, 0), sigma) if sigma > 0.2 else canvas
    noise = rng.normal(0, rng.uniform(*recipe.noise), canvas.shape)
    return np.clip(np.rint(soft + noise), 0, 255).astype(np.uint8)


def _cast(rng: np.random.Generator, split: str, recipe: Recipe) -> tuple[Ints, Doubles]:
    """Choose a scene's digits, indices into ``load_digits``, and their heights in px, the largest first."""
    count = rng.integers(recipe.digits[0], recipe.digits[1] + 1)
    low, high = np.log(recipe.height)
    heights = np.sort(np.exp(rng.uniform(low, high, count)) * recipe.imgsz)[::-1]  # none is buried
    return rng.choice(digit_samples(split, recipe.seed), count, replace=False), heights


def draw_scene(split: str, index: int, recipe: Recipe) -> Scene:
    """Draw scene ``index`` of a split; the same arguments give the same scene."""
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split), index])
    canvas = background(rng, split, recipe.imgsz).astype(np.float32)
    boxes, drawn, masks = np.empty((0, 4), np.int64), [], []
    for sample, height in zip(*_cast(rng, split, recipe), strict=True):
        mask = ink_mask(rng, _digits()[0][sample], height, recipe)
        box = place(rng, mask.shape, boxes, recipe)
        if box is None:
            continue
        paint(rng, canvas, mask, box, recipe)
        boxes = np.vstack([boxes, box])
        drawn.append(sample)
        masks.append(_on_scene(mask, box, recipe.imgsz))
    samples = np.array(drawn, np.int64)
    return Scene(weather(rng, canvas, recipe), samples, _digits()[1][samples], boxes, tuple(masks))


def _on_scene(mask: Float, box: Ints, side: int) -> Float:
    """Put a cut mask (h, w) back where its box is, on an empty (side, side)."""
    full = np.zeros((side, side), np.float32)
    full[box[1] : box[3], box[0] : box[2]] = mask
    return full


def _write(root: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the whole data set into ``root``; return what it was made from."""
    scenes = {split: _scenes(split, recipe) for split in SPLITS}
    return {"recipe": asdict(recipe), "content": write_dataset(root, scenes, NAMES)}


def _scenes(split: str, recipe: Recipe) -> Iterator[Scene]:
    """The scenes of a split, drawn one at a time."""
    return (draw_scene(split, index, recipe) for index in range(getattr(recipe, split)))


def make_data(out: Path, train: int = 1200, val: int = 300, imgsz: int = 128, seed: int = 0) -> Path:
    """Make the data set in ``out`` unless it is there already, and return its data.yaml.

    ``train`` and ``val`` count scenes, ``imgsz`` is their side in px. A data set made from another recipe is
    replaced. ``out`` is whole or absent, also after an interruption. Raises ValueError for a recipe that
    cannot be drawn and FileExistsError when ``out`` holds other files.
    """
    out, recipe = Path(out).resolve(), Recipe(train, val, imgsz, seed)
    make_folder(out, recipe.digest(), lambda root: _write(root, recipe))
    return out / "data.yaml"


def main() -> None:
    """Make the data set and print the path of its data.yaml."""
    parser = argparse.ArgumentParser(description="Make the digits-on-photographs data set.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--train", type=int, default=Recipe.train)
    parser.add_argument("--val", type=int, default=Recipe.val)
    parser.add_argument("--imgsz", type=int, default=Recipe.imgsz)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    print(make_data(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
