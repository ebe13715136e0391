"""Train the bases of the bundled study from scratch, with plain Ultralytics on a CPU.

For each model ``<model>-digits.pt``, ``.csv`` and ``.log`` are written beside this file (see
``studies/base_training.py``).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository
from studies.base_training import Base, make_base
from studies.digits.make_data import make_data

HERE = Path(__file__).resolve().parent
MODELS = ("yolov8n", "yolo11n")
ARGS: dict[str, Any] = {
    "imgsz": 128,
    "epochs": 100,
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
    "close_mosaic": 30,
    "scale": 0.3,
    "fliplr": 0.0,  # a mirrored digit is another digit, or none
    "erasing": 0.0,
}


def main() -> None:
    """Train the models asked for, one after the other."""
    parser = argparse.ArgumentParser(description="Train the bases of the digits study from scratch (CPU).")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--epochs", type=int, default=ARGS["epochs"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "paretoprune-digits")
    asked = parser.parse_args()
    for model in asked.models:
        base = Base(model, f"{model}-digits", HERE, {**ARGS, "epochs": asked.epochs})
        command = f"python studies/digits/train_base.py --models {model} --epochs {asked.epochs}"
        make_base(base, make_data(HERE / "data"), asked.work.resolve(), command)


if __name__ == "__main__":
    main()
