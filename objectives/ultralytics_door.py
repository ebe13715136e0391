"""Wrapper around Ultralytics: silences it and restores the process's state.

Ultralytics logs through one logger, shows progress bars, warns, and `select_device` resets the process' number of torch
threads (8.4: `torch.set_num_threads(NUM_THREADS)`), which would change every latency measured afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Ultralytics below CRITICAL, its progress bars and warnings; restore all on exit."""
    from ultralytics.utils import LOGGER

    from ultralytics_versions.parts import without_bars

    level, threads, visible = LOGGER.level, torch.get_num_threads(), os.environ.get("CUDA_VISIBLE_DEVICES")
    LOGGER.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), without_bars():
            warnings.simplefilter("ignore")
            yield
    finally:
        LOGGER.setLevel(level)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if visible is None:
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible


def is_ultralytics(model: nn.Module) -> bool:
    """Return whether the module is one of Ultralytics' task models, pruned or not."""
    return isinstance(model, _tasks().BaseModel)


def family_of(model: nn.Module) -> str:
    """Return the key of a model's own trainer and validator: `rtdetr`, `world`, `yoloe`, or `yolo` for all others."""
    tasks = _tasks()
    families = {"rtdetr": tasks.RTDETRDetectionModel, "yoloe": tasks.YOLOEModel, "world": tasks.WorldModel}
    return next((name for name, kind in families.items() if isinstance(model, kind)), "yolo")


def predictor_class(model: nn.Module) -> Any:
    """Return Ultralytics' predictor for the network's family and task."""
    from ultralytics.models.rtdetr import RTDETRPredictor
    from ultralytics.models.yolo.model import YOLO

    if family_of(model) == "rtdetr":
        return RTDETRPredictor
    tasks = YOLO.task_map.fget(None)  # type: ignore[attr-defined]
    return tasks[getattr(model, "task", "detect")]["predictor"]


def stride_of(model: nn.Module) -> int:
    """Return the largest stride of a model, in px; 1 if it does not say."""
    stride: Any = getattr(model, "stride", 1)
    return int(max(stride)) if hasattr(stride, "__len__") else int(stride)


def load_module(path: Path) -> nn.Module:
    """Load the float32 module of a checkpoint by Ultralytics' own loader, whose errors pass through."""
    from ultralytics_versions.parts import part
    from ultralytics_versions.restricted_loading import install

    install()
    loader = part("nn.tasks", "load_checkpoint", "attempt_load_one_weight")
    with quiet():
        module: nn.Module = loader(str(path), device=torch.device("cpu"))[0]
    return module


def twin_of(model: nn.Module) -> Any:
    """Return a copy that may be fused and altered; `Any`, since Ultralytics sets its attributes on modules."""
    twin: Any = deepcopy(model)
    if is_ultralytics(model) and not getattr(twin, "task", None):
        with quiet():
            twin.task = _tasks().guess_model_task(twin)
    return twin


def _tasks() -> Any:
    """Return Ultralytics' task classes; `Any`, since type checkers differ in following its untyped functions."""
    return importlib.import_module("ultralytics.nn.tasks")
