"""What a user receives: a pruned file that stock Ultralytics opens, validates and exports without this project.

All models go through one fresh interpreter (isolated, this project's packages blocked, restricted loading on), since
starting one costs more than the checks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pruning
from pruning.checkpoint import count_parameters, save_model
from tests.pruning import zoo
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

ALONE = '''
import json, sys

class Blocked:
    """No import of this project's packages, though they are installed."""
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pruning", "search", "objectives", "tests"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import numpy as np
import onnxruntime
import torch
from ultralytics import YOLO
from ultralytics.utils import LOGGER

LOGGER.setLevel("ERROR")


def arrays(value):
    if isinstance(value, torch.Tensor):
        return [value.numpy()]
    return [a for item in value for a in arrays(item)] if isinstance(value, (list, tuple)) else []


def farthest(found, expected):
    """Largest distance of a detection (a row) to the nearest of the other list: their order does not matter."""
    a, b = found[0], expected[0]
    distances = np.abs(a[:, None] - b[None]).max(-1)
    return max(distances.min(0).max(), distances.min(1).max())


def export_error(path, file, x):
    net = YOLO(path).model.float().eval()
    for module in net.modules():
        if hasattr(module, "export"):
            module.export, module.format = True, "onnx"
    with torch.no_grad():
        expected = arrays(net(x))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    chosen = bool(getattr(net.model[-1], "end2end", False))
    pairs = list(zip(found, expected, strict=True))
    assert pairs and all(a.shape == b.shape and np.isfinite(a).all() for a, b in pairs)
    gaps = [farthest(a, b) if chosen else np.abs(a - b).max() for a, b in pairs]
    return max(float(gap / np.abs(b).max()) for gap, (_, b) in zip(gaps, pairs, strict=True))


def check(path, data):
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    model = YOLO(path)
    results = model.predict(image, imgsz=64, device="cpu", verbose=False)
    metrics = model.val(
        data=data, imgsz=64, batch=4, workers=0, plots=False, device="cpu", verbose=False, project=".", name="val"
    )
    file = YOLO(path).export(format="onnx", imgsz=64, simplify=False, device="cpu", verbose=False)
    return {
        "parameters": sum(p.numel() for p in YOLO(path).model.parameters()),
        "results": len(results),
        "figures": {name: float(value) for name, value in metrics.results_dict.items()},
        "export_error": export_error(path, file, x),
    }


for line in sys.stdin:
    name, path, data = json.loads(line)
    try:
        answer = check(path, data)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print("ANSWER", json.dumps([name, answer]), flush=True)
'''

ENVIRONMENT = {
    "ULTRALYTICS_SAFE_LOAD": "1",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
    "OMP_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], dict[str, dict[str, Any]]]:
    """(parameters of every pruned model when it was saved, what the fresh process found)."""
    folder = tmp_path_factory.mktemp("delivery")
    data = {task: str(make_tiny_data(folder / task, task, images=4)) for task in set(TASKS.values())}
    sizes, lines = {}, []
    for name, task in TASKS.items():
        path = folder / name.replace(".yaml", ".pt")
        sizes[name] = _save_pruned(name, path)
        lines.append(json.dumps([name, str(path), data[task]]))
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE],
        input="\n".join(lines), capture_output=True, text=True, cwd=folder, timeout=200, env=os.environ | ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [json.loads(text.removeprefix("ANSWER ")) for text in done.stdout.splitlines() if text.startswith("ANSWER")]
    return sizes, dict(found)


def _save_pruned(name: str, path: Path) -> int:
    model = zoo.for_tiny_data(name)
    small = pruning.trace(model, zoo.picture()).plan(0.4, round_to=8).apply(model)
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
