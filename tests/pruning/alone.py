"""A fresh interpreter that has stock Ultralytics and none of this project: what a user opens a pruned file with.

Isolated, this project's packages blocked, restricted loading on. Starting it costs more than the checks, so one serves
many files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

SCRIPT = '''
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


class Alone:
    """The interpreter, for the length of a `with` block; `folder` is where it works."""

    def __init__(self, folder: Path) -> None:
        self.errors = (folder / "alone.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            text=True, cwd=folder, env=os.environ | ENVIRONMENT,
        )  # fmt: skip

    def __enter__(self) -> Alone:
        return self

    def check(self, name: str, path: Path, data: str) -> dict[str, Any]:
        """Predict, validate, export and run the export; `error` says what failed. Raises EOFError when it has died."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, str(path), data]) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("ANSWER "):
                answer: dict[str, Any] = json.loads(line.removeprefix("ANSWER "))[1]
                return answer
        raise EOFError(Path(self.errors.name).read_text())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.communicate()
        self.errors.close()
