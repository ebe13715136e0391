"""Make the data of the segmentation study: shapes on photographs with their outlines, in YOLO's format.

Four classes of shapes, turned and stretched, lie on crops of scikit-learn's two real photographs
(``load_sample_images``). Their sizes spread evenly (in octaves) from 10 to 110 px at 160 px, so that all three
levels of a YOLO head have work. Train and val share no pixel of a photograph. No shape covers another, so an
outline is true to the pixel. Every scene is drawn from a generator of its own, seeded by (seed, split, index).

Symbols: S side of a scene in px (``imgsz``), N shapes in it, V corners of one. Images are (S, S, 3) uint8 in BGR,
outlines (V, 2) float64, x and y in px, masks (S, S) float32 in [0, 1].
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository: the photographs are those of the digits
from studies.digits import make_data as digits
from studies.made_folder import make_folder, write_dataset

Float = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
Doubles = npt.NDArray[np.float64]

SPLITS = digits.SPLITS
NAMES = ("disc", "triangle", "box", "star")
SHIFT = 4  # outlines are painted to a 16th of a px
GAP = 2  # px of background between two shapes


@dataclass(frozen=True)
class Recipe:
    """What decides the scenes. Lengths are shares of the scene's side, so that ``imgsz`` only rescales."""

    train: int = 1000
    val: int = 300
    imgsz: int = 160
    seed: int = 0
    shapes: tuple[int, int] = (1, 7)  # per scene, both ends included
    size: tuple[float, float] = (0.0625, 0.69)  # the longer side before turning: 10 to 110 px at 160
    stretch: tuple[float, float] = (0.6, 1.0)  # the shorter side against the longer
    contrast: tuple[float, float] = (18.0, 90.0)  # shape against its surroundings, in grey levels
    opacity: tuple[float, float] = (0.5, 0.95)
    blur: tuple[float, float] = (0.0, 0.008)  # sigma
    noise: tuple[float, float] = (0.0, 16.0)  # sigma, in grey levels

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn: no scenes, or scenes so small that a shape has no corners."""
        if min(self.train, self.val) < 1 or self.imgsz < 96:
            found = f"train={self.train}, val={self.val}, imgsz={self.imgsz}"
            raise ValueError(f"expected 1 scene or more in each split and 96 px or more, found {found}")

    def digest(self) -> str:
        """Identify the recipe together with the code that follows it (hex, 64 characters)."""
        code = Path(__file__).read_bytes() + Path(digits.__file__).read_bytes()
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode() + code).hexdigest()


@dataclass(frozen=True)
class Scene:
    """One drawn image and its N shapes: classes, outlines, masks."""

    image: Image
    classes: tuple[int, ...]
    outlines: tuple[Doubles, ...]
    masks: tuple[Float, ...]

    def label(self) -> str:
        """Return YOLO's label text, a row per shape: class, then x and y of every corner as shares of the side."""
        side = self.image.shape[0]
        rows = (
            f"{name} " + " ".join(f"{value:.6f}" for value in (outline / side).ravel())
            for name, outline in zip(self.classes, self.outlines, strict=True)
        )
        return "\n".join(rows) + "\n"


def unit_outline(name: str) -> Doubles:
    """Return the outline (V, 2) of a shape in the unit circle; a disc has 32 corners, a star 10."""
    corners = {"disc": 32, "triangle": 3, "box": 4, "star": 10}[name]
    angles = 2 * np.pi * (np.arange(corners) + (0.5 if name == "box" else 0)) / corners
    radii = np.where(np.arange(corners) % 2, 0.45, 1.0) if name == "star" else np.ones(corners)
    return np.column_stack([radii * np.cos(angles), radii * np.sin(angles)])


def outline_at(rng: np.random.Generator, name: str, size: float, recipe: Recipe) -> Doubles | None:
    """Turn, stretch and place a shape whose longer side is ``size`` px; None where the scene is too small for it."""
    shape = unit_outline(name) * (size / 2) * np.array([1.0, rng.uniform(*recipe.stretch)])
    angle = rng.uniform(0, 2 * np.pi)
    turned = shape @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    low, high = -turned.min(0), recipe.imgsz - 1 - turned.max(0)
    return turned + rng.uniform(low, high) if (low < high).all() else None


def paint_mask(outline: Doubles, side: int) -> Float:
    """Fill an outline (V, 2) on an empty scene, smoothed at the edge: (side, side) in [0, 1]."""
    canvas = np.zeros((side, side), np.uint8)
    corners = np.rint(outline * 2**SHIFT).astype(np.int32)
    cv2.fillPoly(canvas, [corners], 255, lineType=cv2.LINE_AA, shift=SHIFT)
    return (canvas / 255).astype(np.float32)


def is_free(mask: Float, taken: Float) -> bool:
    """Tell whether a mask keeps its distance from everything painted so far (both (S, S))."""
    grown = cv2.dilate(mask, np.ones((2 * GAP + 1, 2 * GAP + 1), np.uint8))
    return not bool(((grown > 0) & (taken > 0)).any())


def place(
    rng: np.random.Generator, name: str, size: float, taken: Float, recipe: Recipe
) -> tuple[Doubles, Float] | None:
    """Find an outline and mask that touch nothing painted so far; None after 20 tries."""
    for _ in range(20):
        outline = outline_at(rng, name, size, recipe)
        mask = paint_mask(outline, recipe.imgsz) if outline is not None else None
        if outline is not None and mask is not None and is_free(mask, taken):
            return outline, mask
    return None


def fill(rng: np.random.Generator, canvas: Float, mask: Float, recipe: Recipe) -> None:
    """Lay one shape's colour over the canvas (S, S, 3), in place."""
    under = canvas[mask > 0].mean(0)
    colour = digits.ink_colour(rng, under, recipe)  # type: ignore[arg-type]  # it reads ``contrast`` only
    canvas += (mask * rng.uniform(*recipe.opacity))[..., None] * (colour - canvas)


def draw_scene(split: str, index: int, recipe: Recipe) -> Scene:
    """Draw scene ``index`` of a split, the largest shape first; the same arguments give the same scene."""
    rng = np.random.default_rng([recipe.seed, SPLITS.index(split), index])
    canvas = digits.background(rng, split, recipe.imgsz).astype(np.float32)
    taken = np.zeros((recipe.imgsz, recipe.imgsz), np.float32)
    count = rng.integers(recipe.shapes[0], recipe.shapes[1] + 1)
    sizes = np.sort(np.exp(rng.uniform(*np.log(recipe.size), count)))[::-1] * recipe.imgsz
    drawn: list[tuple[int, Doubles, Float]] = []
    for size in sizes:
        kind = int(rng.integers(len(NAMES)))
        placed = place(rng, NAMES[kind], size, taken, recipe)
        if placed is None:
            continue
        fill(rng, canvas, placed[1], recipe)
        taken = np.maximum(taken, placed[1])
        drawn.append((kind, *placed))
    image = digits.weather(rng, canvas, recipe)  # type: ignore[arg-type]  # it reads blur, noise and imgsz only
    classes, outlines, masks = zip(*drawn, strict=True)
    return Scene(image, classes, outlines, masks)


def _write(root: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the whole data set into ``root``; return what it was made from."""
    scenes = {split: _scenes(split, recipe) for split in SPLITS}
    return {"recipe": asdict(recipe), "content": write_dataset(root, scenes, NAMES)}


def _scenes(split: str, recipe: Recipe) -> Iterator[Scene]:
    """The scenes of a split, drawn one at a time."""
    return (draw_scene(split, index, recipe) for index in range(getattr(recipe, split)))


def make_data(out: Path, train: int = 1000, val: int = 300, imgsz: int = 160, seed: int = 0) -> Path:
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
    parser = argparse.ArgumentParser(description="Make the shapes-on-photographs data set.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--train", type=int, default=Recipe.train)
    parser.add_argument("--val", type=int, default=Recipe.val)
    parser.add_argument("--imgsz", type=int, default=Recipe.imgsz)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    print(make_data(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
