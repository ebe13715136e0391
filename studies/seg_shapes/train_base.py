"""Train the base of the segmentation study from scratch, with plain Ultralytics on a CPU.

Writes ``yolov8n-seg-shapes.pt``, ``.csv`` and ``.log`` beside this file (see ``studies/base_training.py``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository
from studies.base_training import Base, make_base
from studies.seg_shapes.make_data import make_data

HERE = Path(__file__).resolve().parent
ARGS: dict[str, Any] = {
    "imgsz": 160,
    "epochs": 50,
    "batch": 16,
    "seed": 0,
    "deterministic": True,
    "device": "cpu",
    "workers": 0,
    "cache": "ram",
    "amp": False,
    "plots": False,
    "optimizer": "AdamW",
    "lr0": 0.002,
    "lrf": 0.01,
    "cos_lr": True,
    "warmup_epochs": 2.0,
    "weight_decay": 0.0005,
    "patience": 0,  # the learning rate is planned to the end: never stop early
    "mosaic": 0.5,
    "close_mosaic": 15,
    "scale": 0.3,
    "flipud": 0.5,  # the shapes lie at any angle
    "erasing": 0.0,
    "mask_ratio": 2,  # masks of 80 x 80 px in training: the smallest shapes keep their form
}


def main() -> None:
    """Train the base."""
    parser = argparse.ArgumentParser(description="Train the base of the segmentation study from scratch (CPU).")
    parser.add_argument("--epochs", type=int, default=ARGS["epochs"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "paretoprune-seg-shapes")
    asked = parser.parse_args()
    base = Base("yolov8n-seg", "yolov8n-seg-shapes", HERE, {**ARGS, "epochs": asked.epochs})
    command = f"python studies/seg_shapes/train_base.py --epochs {asked.epochs}"
    make_base(base, make_data(HERE / "data"), asked.work.resolve(), command)


if __name__ == "__main__":
    main()
