"""A tiny data set of coloured rectangles, and whether a model was left as it was."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
NAMES = ("red", "green", "blue")
SIZE = 64


def write_data(root: Path, *, images: int = 8, labelled: bool = True, names: tuple[str, ...] = NAMES) -> Path:
    """A data YAML with coloured rectangles of known boxes; the colour is the class."""
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind / "val").mkdir(parents=True)
    for i in range(images):
        image = np.full((SIZE, SIZE, 3), 100, np.uint8)
        colour = int(random.integers(3))
        x, y = (int(v) for v in random.integers(2, 30, 2))
        cv2.rectangle(image, (x, y), (x + 27, y + 27), COLOURS[colour], -1)
        cv2.imwrite(str(root / "images" / "val" / f"{i:03d}.png"), image)
        if labelled:
            box = f"{colour} {(x + 14) / SIZE} {(y + 14) / SIZE} {28 / SIZE} {28 / SIZE}\n"
            (root / "labels" / "val" / f"{i:03d}.txt").write_text(box)
    listed = "".join(f"  {i}: {name}\n" for i, name in enumerate(names))
    text = f"path: {root}\ntrain: images/val\nval: images/val\ntest: images/test\nnames:\n{listed}"
    (root / "data.yaml").write_text(text)
    return root / "data.yaml"


def state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def unchanged(model: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    """Same names (fusing removes some) and same values."""
    after = model.state_dict()
    return list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
