"""Two tiny detectors of different width on the tiny data."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_two_bases(folder: Path) -> tuple[list[str], str]:
    """Write wide.pt, narrow.pt (untrained) and data/; return the models and the data YAML."""
    import torch
    from ultralytics.nn.tasks import DetectionModel, yaml_model_load

    from pruning.checkpoints.checkpoint import save_model
    from tests.tiny_data import CLASSES, make_tiny_data

    models = []
    for name, width in (("wide", 0.25), ("narrow", 0.125)):
        torch.manual_seed(0)
        config = {**yaml_model_load("yolov8n.yaml"), "scales": {"n": [0.33, width, 1024]}, "scale": "n"}
        model: Any = DetectionModel(config, nc=len(CLASSES), verbose=False)
        model.names, model.args, model.task = dict(enumerate(CLASSES)), {}, "detect"
        save_model(model, folder / f"{name}.pt")
        models.append(str(folder / f"{name}.pt"))
    return models, str(make_tiny_data(folder / "data"))
