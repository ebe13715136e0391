"""What a user receives: a pruned file that stock Ultralytics opens, validates and exports without this project.

All models go through one fresh interpreter (alone.py). `make zoo` sends every row of its table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pruning.checkpoints.checkpoint import count_parameters, save_model
from tests import shelf
from tests.pruning import zoo
from tests.pruning.alone import Alone
from tests.tiny_data import make_tiny_data

TASKS = {
    "yolov8n.yaml": "detect",
    "yolov8n-seg.yaml": "segment",
    "yolov8n-pose.yaml": "pose",
    "yolov8n-obb.yaml": "obb",
    "yolov8n-cls.yaml": "classify",
    "yolov10n.yaml": "detect",
    "yolo11n.yaml": "detect",
    "yolo12n.yaml": "detect",
    "yolo26n.yaml": "detect",
}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """(parameters of every pruned model when it was saved, what the fresh process found)."""
    folder = tmp_path_factory.mktemp("delivery")
    data = {task: str(make_tiny_data(folder / task, task, images=4)) for task in set(TASKS.values())}
    sizes, answers = {}, {}
    with Alone(folder) as alone:
        for name, task in TASKS.items():
            path = folder / name.replace(".yaml", ".pt")
            sizes[name] = _save_pruned(name, path)
            answers[name] = alone.check(name, path, data[task])
    return sizes, answers


def _save_pruned(name: str, path: Path) -> int:
    model = zoo.for_tiny_data(name)
    small = shelf.trace(model, zoo.picture()).plan(0.4, round_to=8).apply(model)
    assert count_parameters(small) < 0.8 * count_parameters(model)
    save_model(small, path)
    return count_parameters(small)


@pytest.mark.parametrize("name", TASKS)
def test_a_pruned_model_stands_alone(name: str, delivered: tuple[dict[str, int], dict[str, dict[str, Any]]]) -> None:
    sizes, answers = delivered
    answer = answers[name]
    assert "error" not in answer, answer["error"]
    assert answer["parameters"] == sizes[name]
    assert answer["results"] == 1
    assert answer["figures"] and all(value == value for value in answer["figures"].values())
    assert answer["export_error"] < 1e-5
