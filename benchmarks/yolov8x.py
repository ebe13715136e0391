"""yolov8x at the published size: prune by a uniform 0.45, train one step at 64 px, save, export, compare.

    python benchmarks/yolov8x.py

A published result goes from 129.1 GMACs and 68.2 M parameters (640 px) to 41.7 G and 20.8 M. Weights are random: this
shows that the size is reached and that the result trains and exports, not what it detects.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn
from ultralytics import YOLO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pruning import trace
from pruning.checkpoints.checkpoint import count_parameters, save_model
from tests.pruning import zoo

RATIO, ROUND_TO = 0.45, 8
MOST_MACS, MOST_PARAMS = 41.7e9, 20.8e6


def export_error(path: Path) -> float:
    """Largest difference of ONNX Runtime's and torch's raw output, relative to the largest value."""
    file = YOLO(path).export(format="onnx", imgsz=zoo.SIZE, simplify=False, device="cpu", verbose=False)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: zoo.picture().numpy()})[0]
    with torch.no_grad():
        expected = YOLO(path).model.float().eval()(zoo.picture())[0].numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def train_a_step(model: nn.Module) -> float:
    """The loss of one step of SGD on Ultralytics' own loss, for one box on random pixels."""
    batch = {
        "img": zoo.picture(batch=2),
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.zeros(2, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]] * 2),
    }
    loss = model.train().loss(batch)[0].sum()  # type: ignore[operator]
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)  # as Ultralytics' trainers do
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    model.zero_grad(set_to_none=True)
    return float(loss.detach())


def main() -> None:
    """Print the figures; exit 1 unless the size is reached and the export agrees."""
    model = zoo.calibrated("yolov8x.yaml")
    model.args = {**model.args, "imgsz": zoo.SIZE}
    began = time.perf_counter()
    graph = trace(model, torch.zeros(1, 3, 640, 640))
    print(f"trace at 640 px: {time.perf_counter() - began:.1f} s")
    plan = graph.plan(RATIO, round_to=ROUND_TO)
    for name, cost in (("base", graph.cost()), ("pruned", plan.cost())):
        print(f"{name}: {cost.params:,} parameters, {cost.macs / 1e9:.2f} GMACs at 640 px")
    small = plan.apply(model)
    assert count_parameters(small) == plan.cost().params
    from ultralytics.cfg import get_cfg

    small.args = get_cfg(overrides={"imgsz": zoo.SIZE})
    print(f"loss of one training step: {train_a_step(small):.3f}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pruned.pt"
        save_model(small, path)
        error = export_error(path)
    print(f"ONNX Runtime against torch: largest relative difference {error:.1e}")
    reached = plan.cost().macs <= MOST_MACS and plan.cost().params <= MOST_PARAMS
    sys.exit(0 if reached and error < 1e-3 else 1)


if __name__ == "__main__":
    main()
