"""Fixtures of this room: a simulated clock, a tiny real model and a tiny data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import objectives  # noqa: F401  sets Ultralytics' environment before anything imports it
from tests.objectives.fakes import SimulatedClock
from tests.objectives.rectangles import NAMES, write_data

settings.register_profile("objectives", deadline=None)  # a busy machine is no fault of a property
settings.load_profile("objectives")


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture(scope="session")
def tiny_yolo() -> Any:
    """yolov8n with three classes and random weights: an Ultralytics module of 3.0 M parameters."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model: Any = DetectionModel("yolov8n.yaml", nc=len(NAMES), verbose=False)
    model.names = dict(enumerate(NAMES))
    model.task = "detect"
    return model.eval()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("rectangles"))
