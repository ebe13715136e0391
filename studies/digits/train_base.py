"""Train the bases of the bundled study from scratch, with plain Ultralytics on a CPU.

For each model three files are written beside this one: ``<model>-digits.pt`` (stripped, half precision),
``<model>-digits.csv`` (Ultralytics' table, a row per epoch) and ``<model>-digits.log`` (versions, arguments,
data, seconds, and what the written checkpoint scores once it is loaded again).
"""

from __future__ import annotations

import os

os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # read by Ultralytics at import
os.environ.setdefault("YOLO_OFFLINE", "true")

import argparse
import json
import platform
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import ultralytics
from make_data import make_data, read_marker
from ultralytics.models import YOLO
from ultralytics.utils.torch_utils import strip_optimizer

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
PATH_ARGS = ("data", "project", "save_dir", "name", "model", "cfg", "pretrained", "resume")
MACHINE_KEYS = ("git", "date")


def train(model: str, data: Path, epochs: int, work: Path) -> Path:
    """Train one model from random weights and return Ultralytics' run folder, made below ``work``."""
    run = YOLO(f"{model}.yaml")
    run.train(data=str(data), project=str(work), name=model, exist_ok=True, **{**ARGS, "epochs": epochs})
    return work / model


def without_paths(args: dict[str, Any]) -> dict[str, Any]:
    """Return training arguments without those that name a place on this machine."""
    return {key: value for key, value in args.items() if key not in PATH_ARGS}


def slim(source: Path, target: Path) -> None:
    """Write a trainer's checkpoint for the repository: no optimizer, half precision, no local path."""
    stripped: dict[str, Any] = strip_optimizer(source, s=str(target))
    kept = {key: value for key, value in stripped.items() if key not in MACHINE_KEYS}
    kept["train_args"] = without_paths(kept["train_args"])
    kept["model"].args = without_paths(kept["model"].args)
    torch.save(kept, target)


def load(checkpoint: Path) -> torch.nn.Module:
    """Return the network in a checkpoint, loaded as users load it."""
    net = YOLO(checkpoint).model
    assert isinstance(net, torch.nn.Module)
    return net


def score(checkpoint: Path, data: Path) -> dict[str, float]:
    """Validate a written checkpoint on the val split: mAP50-95 and mAP50 as fractions 0 to 1."""
    with tempfile.TemporaryDirectory() as room:
        place = {"data": str(data), "project": room, "device": "cpu", "workers": 0}
        found = YOLO(checkpoint).val(imgsz=ARGS["imgsz"], plots=False, verbose=False, **place)
    return {"map50_95": round(float(found.box.map), 4), "map50": round(float(found.box.map50), 4)}


def record(model: str, data: Path, epochs: int, seconds: float) -> str:
    """Describe how a base came about, as JSON lines; the score is that of the file that was written."""
    checkpoint = HERE / f"{model}-digits.pt"
    facts = {
        "model": model,
        "command": f"python studies/digits/train_base.py --models {model} --epochs {epochs}",
        "args": {**ARGS, "epochs": epochs},
        "data": read_marker(data.parent)["content"],
        "train_seconds": round(seconds),
        "size_bytes": checkpoint.stat().st_size,
        "params": sum(weight.numel() for weight in load(checkpoint).parameters()),
        "val": score(checkpoint, data),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ultralytics": ultralytics.__version__,
        "threads": torch.get_num_threads(),
    }
    return json.dumps(facts, indent=2) + "\n"


def make_base(model: str, epochs: int, work: Path) -> None:
    """Train one model and write its checkpoint, epoch table and log beside this file."""
    data = make_data(HERE / "data")
    start = time.monotonic()
    run = train(model, data, epochs, work)
    seconds = time.monotonic() - start
    slim(run / "weights" / "best.pt", HERE / f"{model}-digits.pt")
    shutil.copyfile(run / "results.csv", HERE / f"{model}-digits.csv")
    (HERE / f"{model}-digits.log").write_text(record(model, data, epochs, seconds))


def main() -> None:
    """Train the models asked for, one after the other."""
    parser = argparse.ArgumentParser(description="Train the bases of the digits study from scratch (CPU).")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--epochs", type=int, default=ARGS["epochs"])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "paretoprune-digits")
    asked = parser.parse_args()
    for model in asked.models:
        make_base(model, asked.epochs, asked.work.resolve())


if __name__ == "__main__":
    main()
