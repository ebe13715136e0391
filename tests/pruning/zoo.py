"""Models for the tests: stock architectures with random weights, made once per process.

Batch norms get random statistics and scales, so that zeroed, removed and kept channels differ visibly.
"""

from __future__ import annotations

import copy
import functools
import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning import ChannelGraph
from pruning.recovery.bn_calibration import measure_statistics
from tests import shelf

DETECTORS = ("yolov8n.yaml", "yolo11n.yaml", "yolo26n.yaml")

ALL_FAMILIES = (
    *("yolov3-tiny.yaml", "yolov5n.yaml", "yolov6n.yaml", "yolov8n.yaml", "yolov8n-p2.yaml", "yolov8n-p6.yaml"),
    *("yolov8n-ghost.yaml", "yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-obb.yaml", "yolov8n-cls.yaml"),
    *("yolov9t.yaml", "yolov10n.yaml", "yolov10b.yaml", "yolo11n.yaml", "yolo11n-seg.yaml", "yolo11n-cls.yaml"),
    *("yolo12n.yaml", "yolo12n-obb.yaml", "yolo26n.yaml", "yolo26n-seg.yaml", "yolo26n-pose.yaml", "yolo26n-obb.yaml"),
    *("yolo26n-cls.yaml", "torchvision:resnet18", "torchvision:mobilenet_v3_small", "torchvision:regnet_x_400mf"),
)
"""One model of every family and task that the suite runs; `make zoo` runs the larger sizes too."""


def exists(name: str) -> bool:
    """Whether the Ultralytics that is installed has a model; an older one lacks the later families."""
    import ultralytics

    here = {path.name for path in (Path(ultralytics.__file__).parent / "cfg" / "models").rglob("*.yaml")}
    return name.startswith("torchvision:") or name in here or re.sub(r"(\d)[nslmx]", r"\1", name, count=1) in here


FAMILIES = tuple(filter(exists, ALL_FAMILIES))

TASKS = {"seg": "segment", "pose": "pose", "obb": "obb", "cls": "classify"}
MODELS = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
    "classify": "ClassificationModel",
}

SIZE = 64


def seeded(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` with random batch norms and filters that keep the signal's size (He), trainable, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and "dfl" not in name:
            nn.init.kaiming_normal_(module.weight, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
            ):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model.eval()


@functools.lru_cache(maxsize=8)
def build(name: str) -> nn.Module:
    """'yolov8n.yaml' or 'torchvision:resnet18', random weights, the same in every run."""
    torch.manual_seed(0)
    if name.startswith("torchvision:"):
        import torchvision

        return seeded(torchvision.models.get_model(name.removeprefix("torchvision:"), weights=None))
    from ultralytics import RTDETR, YOLO

    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    return seeded((RTDETR if name.startswith("rtdetr") else YOLO)(name).model)


def calibrated(name: str) -> nn.Module:
    """A copy of `build(name)` whose batch norms hold the statistics of random pictures, as in a trained network.

    Without this, activations grow from layer to layer, and attention amplifies the rounding of float32.
    """
    model = copy.deepcopy(build(name))
    measure_statistics(model, [picture(batch=8, seed=1)])
    return model


def task_of(name: str) -> str:
    """The task that the name of a model YAML says."""
    return next((task for tail, task in TASKS.items() if f"-{tail}" in name), "detect")


def for_tiny_data(name: str) -> nn.Module:
    """A stock model with the two classes (and four keypoints) of tests/tiny_data.py, ready to be saved."""
    from ultralytics.nn import tasks as stock

    task = task_of(name)
    options = {"data_kpt_shape": (4, 3)} if task == "pose" else {}
    torch.manual_seed(0)
    kind = "RTDETRDetectionModel" if name.startswith("rtdetr") else MODELS[task]
    model: Any = getattr(stock, kind)(name, nc=2, verbose=False, **options)
    model.task, model.names, model.args = task, {0: "dark", 1: "bright"}, {"imgsz": SIZE}
    model.nc = 2  # a training sets it; RT-DETR's loss reads it
    measure_statistics(seeded(model), [picture(batch=8, seed=1)])
    return model  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=8)
def traced(name: str) -> ChannelGraph:
    """The graph of `build(name)` at 64 px."""
    return shelf.trace(build(name), torch.zeros(1, 3, SIZE, SIZE))


def picture(batch: int = 1, seed: int = 0) -> Tensor:
    """(batch, 3, 64, 64), 0 to 1."""
    return torch.rand(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def outputs(value: Any) -> list[Tensor]:
    """All tensors that a model returns, but the features that a head passes through."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for key, item in value.items() if key != "feats" for t in outputs(item)]
    if isinstance(value, (list, tuple)):
        return [t for item in value for t in outputs(item)]
    return []


def worst_difference(first: Any, second: Any) -> float:
    """Largest difference of two models' outputs, relative to each output's largest value."""
    pairs = list(zip(outputs(first), outputs(second), strict=True))
    assert pairs
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-6)) for a, b in pairs)


def random_ratios(graph: ChannelGraph, seed: int, high: float = 0.9) -> dict[str, float]:
    """A random ratio for every tie, named by its first group."""
    generator = torch.Generator().manual_seed(seed)
    chosen: dict[str, float] = {}
    for group in graph.free:
        if group.tie is None or group.tie == group.name:
            chosen[group.name] = float(torch.rand((), generator=generator)) * high
    return chosen
