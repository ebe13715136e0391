"""Bases whose batch-norm statistics are those of augmented batches, as after a training; their weights are random."""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from pruning.checkpoints.checkpoint import save_model
from pruning.recovery.bn_calibration import calibration_batches, measure_statistics
from pruning.recovery.finetune import Recovery, data_trainer
from pruning.sensitivity import OutputDivergence
from tests.pruning import zoo
from tests.shelf import shared_folder
from tests.tiny_data import make_tiny_data

AUGMENTED = {"scale": 0.9, "translate": 0.5, "hsv_v": 0.9, "mosaic": 1.0, "erasing": 0.9}


def as_if_trained(name: str, folder: Path, images: int = 16) -> tuple[Path, Path]:
    """Write a base and its data into `folder`; returns the checkpoint, and what Ultralytics takes as `data`."""
    data = make_tiny_data(folder / "data", zoo.task_of(name), images=images)
    shared_folder(f"as-if-trained-{name}-{images}", lambda kept: _write_base(name, images, kept), folder / "kept")
    return (folder / "kept" / "base.pt").rename(folder / "base.pt"), data


def _write_base(name: str, images: int, folder: Path) -> None:
    with TemporaryDirectory() as place:
        data = make_tiny_data(Path(place) / "data", zoo.task_of(name), images=images)
        model: Any = zoo.for_tiny_data(name)
        model.args = {**model.args, **AUGMENTED}
        trainer = data_trainer(model, data, Recovery(imgsz=64, batch=16), Path(place) / "work")
        batches = [next(iter(trainer.get_dataloader(trainer.data["train"], 16, -1))) for _ in range(8)]
        measure_statistics(model, [trainer.preprocess_batch(batch)["img"] for batch in batches])
        save_model(model, folder / "base.pt", dtype=torch.float32)


def harm_of_new_statistics(base: nn.Module, data: Path) -> tuple[OutputDivergence, float]:
    """How far outputs are from the base's on its clean training images, and how far new statistics would move them."""
    clean = list(calibration_batches(data, 64, task=str(getattr(base, "task", "detect"))))
    outputs, remeasured = OutputDivergence(base, clean), copy.deepcopy(base)
    measure_statistics(remeasured, clean)
    return outputs, float(outputs.losses(remeasured).mean())
