"""A small real model and a small real data set, made once.

The network is random, but its batch-norm statistics are those of the images (else every activation dies out and the
outputs are constants, on which any export agrees), and the labels are its own most certain predictions: the model is
good at the data set without a training, so a damaged export is worse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import objectives  # noqa: F401  (sets Ultralytics' environment before its first import)

COUNT, SIZE, OBJECTS = 6, 64, 2


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of coloured rectangles on noise."""
    import cv2

    folder = tmp_path_factory.mktemp("squares") / "images" / "val"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        image = rng.integers(0, 90, (SIZE, SIZE, 3), dtype=np.uint8)
        for left, top in rng.integers(2, 40, (3, 2)):
            image[top : top + 20, left : left + 14] = rng.integers(60, 255, 3)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


@pytest.fixture(scope="session")
def checkpoint(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """yolov8n with two classes, saved by Ultralytics."""
    from ultralytics import YOLO

    from objectives.ultralytics_door import quiet

    with quiet():
        yolo = YOLO("yolov8n.yaml")
        yolo.model = _random_model(images, yolo.model.args)
        path = tmp_path_factory.mktemp("model") / "model.pt"
        yolo.save(path)
    return path


@pytest.fixture(scope="session")
def dataset(images: Path, checkpoint: Path) -> Path:
    """data.yaml of the images, labelled by the checkpoint."""
    from ultralytics import YOLO

    from objectives.ultralytics_door import quiet

    root = images.parents[1]
    labels = root / "labels" / "val"
    labels.mkdir(parents=True)
    with quiet():
        for file in sorted(images.iterdir()):
            boxes: Any = YOLO(checkpoint)(str(file), imgsz=SIZE, conf=1e-4, max_det=OBJECTS, verbose=False)[0].boxes
            rows = np.column_stack([boxes.cls.numpy(), boxes.xywhn.numpy().clip(0, 1)])
            np.savetxt(labels / f"{file.stem}.txt", rows, fmt=["%d", "%.6f", "%.6f", "%.6f", "%.6f"])
    data = root / "data.yaml"
    data.write_text(f"path: {root}\ntrain: images/val\nval: images/val\nnames: {{0: blue, 1: red}}\n")
    return data


def _random_model(images: Path, args: Any) -> Any:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from search.export.parity import load_images

    torch.manual_seed(0)
    model: Any = DetectionModel("yolov8n.yaml", nc=2, verbose=False)
    model.names, model.args, model.task = {0: "blue", 1: "red"}, args, "detect"
    batch = torch.cat([torch.from_numpy(image) for image in load_images(sorted(images.iterdir()), SIZE, COUNT, 3)[0]])
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the passes
            torch.nn.init.uniform_(module.weight, 0.7, 1.6)
    for branch in model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].weight, std=0.3)
        torch.nn.init.constant_(branch[-1].bias, -3.0)
    for branch in model.model[-1].cv2:  # distances of about one cell, so that boxes lie inside the picture
        torch.nn.init.normal_(branch[-1].weight, std=0.02)
        branch[-1].bias.data = -1.5 * torch.arange(16.0).repeat(4)
    with torch.no_grad():
        model.train()(batch)
    return model.eval()
