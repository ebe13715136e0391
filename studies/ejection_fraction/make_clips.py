"""Make clips of a beating ventricle with known ejection fraction, in the layout of EchoNet-Dynamic.

A dark cavity in a bright wall lies in a fan-shaped, speckled picture, turned and placed at random. The cavity is a
prolate ellipsoid with half axes a (long) and b (short) in px, so its volume is V = 4/3 pi a b^2, and

    EF = 100 (V_max - V_min) / V_max

is known exactly, because the axes follow the volume: a ~ V^0.2, b ~ V^0.4. The wall thickens as the cavity shrinks.
This is a drawing, not a simulation of ultrasound: it has the task's shape, and says nothing about hearts.

Symbols: S side in px, t time as a share of the clip, s(t) how far the systole has got, 0 to 1.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository
from studies.ejection_fraction.echonet import LIST, VIDEOS
from studies.made_folder import make_folder

Floats = npt.NDArray[np.float64]

SYSTOLE = 0.35
"""Share of a beat in which the ventricle contracts."""
FPS = 25


@dataclass(frozen=True)
class Recipe:
    """What decides the clips. Ranges have both ends included; lengths are shares of S."""

    train: int = 192
    val: int = 64
    test: int = 64
    size: int = 64
    frames: int = 24
    seed: int = 0
    ef: tuple[float, float] = (15.0, 75.0)  # per cent
    long_axis: tuple[float, float] = (0.24, 0.30)  # a at the end of diastole
    slimness: tuple[float, float] = (0.50, 0.62)  # b / a there
    wall: tuple[float, float] = (0.045, 0.065)
    beats: tuple[float, float] = (1.2, 2.2)  # per clip
    tilt: float = 0.35  # radians, either way
    speckle: float = 0.35

    def __post_init__(self) -> None:
        if min(self.train, self.val, self.test) < 1 or self.size < 32 or self.frames < 4:
            raise ValueError(f"expected a clip in each split, 32 px or more, 4 frames or more; found {self}")

    def digest(self) -> str:
        """Identify the recipe together with the code that follows it (hex, 64 characters)."""
        said = json.dumps(asdict(self), sort_keys=True).encode()
        return hashlib.sha256(said + Path(__file__).read_bytes()).hexdigest()


@dataclass(frozen=True)
class Heart:
    """One ventricle: ejection fraction in per cent, half axes at the end of diastole in px, how it lies and beats."""

    ef: float
    a: float
    b: float
    wall: float
    centre: tuple[float, float]
    tilt: float
    beats: float
    phase: float

    def axes(self, t: float) -> tuple[float, float]:
        """Half axes (long, short) in px at time t, 0 to 1: their a b^2 is the volume."""
        volume = 1.0 - self.ef / 100 * systole((self.beats * t + self.phase) % 1.0)
        return self.a * volume**0.2, self.b * volume**0.4


def systole(phase: float) -> float:
    """s at a phase of the beat, 0 to 1: up in SYSTOLE, down in the rest, smooth at both ends."""
    rising = phase / SYSTOLE if phase < SYSTOLE else 1.0 - (phase - SYSTOLE) / (1.0 - SYSTOLE)
    return float((1.0 - np.cos(np.pi * rising)) / 2.0)


def draw_heart(rng: np.random.Generator, recipe: Recipe) -> Heart:
    """A ventricle at random."""
    side = recipe.size
    a = rng.uniform(*recipe.long_axis) * side
    return Heart(
        ef=round(float(rng.uniform(*recipe.ef)), 2),
        a=a,
        b=a * rng.uniform(*recipe.slimness),
        wall=rng.uniform(*recipe.wall) * side,
        centre=(side * rng.uniform(0.44, 0.56), side * rng.uniform(0.50, 0.60)),
        tilt=rng.uniform(-recipe.tilt, recipe.tilt),
        beats=rng.uniform(*recipe.beats),
        phase=rng.uniform(0, 1),
    )


def draw_frame(heart: Heart, t: float, recipe: Recipe, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """One grey frame (S, S)."""
    side = recipe.size
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    along, across = _turned(x - heart.centre[0], y - heart.centre[1], heart.tilt)
    a, b = heart.axes(t)
    thick = heart.wall * (heart.b / b) ** 0.5
    inner, outer = _depth(along, across, a, b), _depth(along, across, a + thick, b + thick)
    tissue = 0.42 + (0.80 - 0.42) * outer
    image = (tissue + (0.08 - tissue) * inner) * _fan(x, y, side)
    noise = cv2.GaussianBlur(rng.rayleigh(1.0, (side, side)), (0, 0), 0.7) / np.sqrt(np.pi / 2)
    speckled = image * (1.0 + recipe.speckle * (noise - 1.0) * 2.0)
    return np.clip(speckled * 255, 0, 255).astype(np.uint8)


def _turned(x: Floats, y: Floats, angle: float) -> tuple[Floats, Floats]:
    return -x * np.sin(angle) + y * np.cos(angle), x * np.cos(angle) + y * np.sin(angle)


def _depth(along: Floats, across: Floats, a: float, b: float) -> Floats:
    """1 inside an ellipse, 0 outside, smooth over a px or two."""
    reach = np.hypot(along / a, across / b)
    return np.asarray(1.0 / (1.0 + np.exp(np.clip((reach - 1.0) * b * 2.0, -50, 50))))


def _fan(x: Floats, y: Floats, side: int) -> Floats:
    """The sector that a probe at the top sees."""
    angle, reach = np.arctan2(x - side / 2, y + 0.05 * side), np.hypot(x - side / 2, y + 0.05 * side)
    return ((np.abs(angle) < 0.72) & (reach < 1.02 * side)).astype(np.float64)


def draw_clip(split: str, index: int, recipe: Recipe) -> tuple[Heart, npt.NDArray[np.uint8]]:
    """Clip `index` of a split, (T, S, S), and its ventricle; the same arguments give the same clip."""
    rng = np.random.default_rng([recipe.seed, ("train", "val", "test").index(split), index])
    heart = draw_heart(rng, recipe)
    times = np.arange(recipe.frames) / recipe.frames
    return heart, np.stack([draw_frame(heart, float(t), recipe, rng) for t in times])


def _write(root: Path, recipe: Recipe) -> dict[str, Any]:
    (root / VIDEOS).mkdir()
    with (root / LIST).open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["FileName", "EF", "FrameHeight", "FrameWidth", "FPS", "NumberOfFrames", "Split"])
        for split in ("train", "val", "test"):
            for index in range(getattr(recipe, split)):
                heart, frames = draw_clip(split, index, recipe)
                name = f"{split}{index:04d}"
                _write_video(root / VIDEOS / f"{name}.avi", frames)
                table.writerow([name, heart.ef, recipe.size, recipe.size, FPS, recipe.frames, split.upper()])
    return {"recipe": asdict(recipe)}


def _write_video(path: Path, frames: npt.NDArray[np.uint8]) -> None:
    side = frames.shape[-1]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (side, side))
    for frame in frames:
        video.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    video.release()


def make_clips(out: Path, **recipe: Any) -> Path:
    """Make the clips in ``out`` unless they are there already, and return ``out``. See `Recipe` for the rest."""
    out, asked = Path(out).resolve(), Recipe(**recipe)
    make_folder(out, asked.digest(), lambda root: _write(root, asked))
    return out


def main() -> None:
    """Make the clips and print their folder."""
    parser = argparse.ArgumentParser(description="Make clips of a beating ventricle with known ejection fraction.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "data")
    for name in ("train", "val", "test", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Recipe, name))
    print(make_clips(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
