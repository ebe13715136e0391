"""YOLOv8x to about half its widths, fine-tuned on today's Ultralytics, with the three traps of training looked at.

    python studies/yolov8x_half/half.py
    python studies/yolov8x_half/half.py --trained      # the last two traps on trained weights: the digits base

The write-up's example "is crashed due to ultralytics upgrade". It rewrote three functions of a pinned commit, because

    1. `YOLO.train` builds a new network from the YAML: the pruned one is gone;
    2. checkpoints are saved in half precision, so the file is not the network that was validated;
    3. `final_eval` strips the checkpoint to half precision once more.

Here each is tried on the pruned network: first plain Ultralytics, then `pruning.recovery.finetune.trainer_for`. Weights
are random and the data are a few dozen scenes with the 80 classes of COCO in name only, so no accuracy is claimed:
sizes, what training leaves of them, and how far a file is from the network in memory. Writes results.json beside this
file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # read by Ultralytics at import
os.environ.setdefault("YOLO_OFFLINE", "true")
sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository

import torch
import yaml
from torch import nn
from ultralytics.models import YOLO

from objectives.accuracy.measure import measure_accuracy
from objectives.ultralytics_door import quiet
from pruning import trace
from pruning.checkpoints.checkpoint import count_parameters, load_model, save_model
from pruning.recovery.bn_calibration import BaseMoments, calibration_batches, match_statistics, measure_statistics
from pruning.recovery.finetune import trainer_for
from studies.digits.make_data import make_data

HERE = Path(__file__).resolve().parent
PUBLISHED = {"macs_g": (129.092051, 41.741203), "params": (68_229_648, 20_787_528)}
CLASSES = 80


@dataclass(frozen=True)
class Settings:
    """What is pruned and how it is trained. `cost_size`: where MACs are counted; `size`: the images of the training."""

    model: str = "yolov8x.yaml"
    ratio: float = 0.45
    round_to: int = 8
    cost_size: int = 640
    size: int = 64
    scenes: int = 32
    epochs: int = 1
    grow_back: bool = True


def run(asked: Settings, work: Path) -> dict[str, Any]:
    """All facts, as plain data."""
    data = toy_data(work, asked.scenes, asked.size)
    model = random_model(asked.model, data, asked.size)
    began = time.perf_counter()
    graph = trace(model, torch.zeros(1, 3, asked.cost_size, asked.cost_size))
    plan = graph.plan(asked.ratio, round_to=asked.round_to)
    pruned = plan.apply(model)
    match_statistics(pruned, plan, BaseMoments(model, calibration_batches(data, asked.size, count=asked.scenes)))
    seconds = time.perf_counter() - began
    before, after = graph.cost(), plan.cost()
    save_model(pruned, work / "pruned.pt")
    return {
        "model": asked.model,
        "ratio": asked.ratio,
        "cost_size": asked.cost_size,
        "params": [before.params, after.params, count_parameters(pruned)],
        "macs_g": [before.macs / 1e9, after.macs / 1e9],
        "prune_seconds": round(seconds, 1),
        "half_precision": worst_difference(pruned, load_model(work / "pruned.pt"), asked.size),
        "plain_training": grown_back(asked, data, work) if asked.grow_back else None,
        "our_training": {name: fact for name, fact in trained(asked, data, work).items() if name != "network"},
        "onnx": exported(work / "pruned.pt", asked.size),
    }


def toy_data(work: Path, scenes: int, size: int) -> Path:
    """A few scenes of digits under 80 class names: labels of the first ten."""
    made = make_data(work / "digits", train=scenes, val=max(4, scenes // 4), imgsz=max(size, 96))
    said = yaml.safe_load(made.read_text())
    said |= {"path": str(made.parent), "names": {number: f"class {number}" for number in range(CLASSES)}}
    (work / "toy.yaml").write_text(yaml.safe_dump(said))
    return work / "toy.yaml"


def random_model(name: str, data: Path, size: int) -> nn.Module:
    """A stock network with the random weights of seed 0, its batch norms measured on the toy data."""
    torch.manual_seed(0)
    with quiet():
        model: Any = YOLO(name).model
    model.names = {number: f"class {number}" for number in range(CLASSES)}
    model.args, model.task = {"imgsz": size}, "detect"
    measure_statistics(model, calibration_batches(data, size, count=8))
    return model.eval()  # type: ignore[no-any-return]


def worst_difference(first: nn.Module, second: nn.Module, size: int) -> float:
    """Largest difference of two networks' outputs on one picture, relative to the largest value."""
    picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = (model.float().eval()(picture)[0] for model in (first, second))
    return float((a - b).abs().max() / b.abs().max())


def training_keys(asked: Settings, data: Path, work: Path, name: str) -> dict[str, Any]:
    """The same training for both; no warm-up, a small rate: one epoch of random weights must not diverge."""
    keys = {"data": str(data), "epochs": asked.epochs, "imgsz": asked.size, "batch": 8, "device": "cpu", "workers": 0}
    quietly = {"plots": False, "verbose": False, "exist_ok": True, "project": str(work), "name": name, "seed": 0}
    return {**keys, **quietly, "amp": False, "optimizer": "SGD", "lr0": 1e-4, "warmup_epochs": 0, "mosaic": 0.0}


def grown_back(asked: Settings, data: Path, work: Path) -> dict[str, Any]:
    """Trap 1: what `YOLO(pruned).train()` leaves of the pruned network."""
    with quiet():
        YOLO(work / "pruned.pt").train(**training_keys(asked, data, work, "plain"))
    return {"params": count_parameters(load_model(work / "plain" / "weights" / "last.pt"))}


def trained(asked: Settings, data: Path, work: Path, rate: float = 1e-4) -> dict[str, Any]:
    """All three traps with our trainer: what is in memory after the last epoch, and what lies in the final file."""
    kept: dict[str, nn.Module] = {}

    def keep(trainer: Any) -> None:
        import copy

        kept["memory"] = copy.deepcopy(trainer.ema.ema).float()

    run = YOLO(work / "pruned.pt")
    run.add_callback("on_model_save", keep)
    with quiet():
        run.train(trainer=trainer_for("detect"), **training_keys(asked, data, work, "ours") | {"lr0": rate})
    file = work / "ours" / "weights" / "last.pt"
    final = load_model(file)
    return {
        "params": count_parameters(final),
        "moved": worst_difference(load_model(work / "pruned.pt"), final, asked.size),
        "memory_to_file": worst_difference(kept["memory"], final, asked.size),
        "file_dtype": str(torch.load(file, weights_only=False)["model"].model[0].conv.weight.dtype),
        "network": kept["memory"],
    }


def trained_traps(base: Path, data: Path, size: int, work: Path, epochs: int = 1) -> dict[str, Any]:
    """Traps 2 and 3 where weights mean something: what the network in memory and the file that is left are worth.

    A fifth of every layer of a trained network is removed; then it is fine-tuned by our trainer.
    """
    model = load_model(base)
    plan = trace(model, torch.zeros(1, 3, size, size)).plan(0.2, round_to=8)
    pruned = plan.apply(model)
    match_statistics(pruned, plan, BaseMoments(model, calibration_batches(data, size, count=64)))
    save_model(pruned, work / "pruned.pt")
    said = trained(Settings(size=size, epochs=epochs), data, work, rate=0.002)
    memory = measure_accuracy(said.pop("network"), data, imgsz=size, work_dir=work).figures["map50_95"]
    file = measure_accuracy(work / "ours" / "weights" / "last.pt", data, imgsz=size, work_dir=work)
    return {**said, "map50_95_memory": memory.value, "map50_95_file": file.figures["map50_95"].value}


def exported(path: Path, size: int) -> dict[str, Any]:
    """ONNX Runtime against PyTorch."""
    import onnxruntime

    with quiet():
        file = YOLO(path).export(format="onnx", imgsz=size, simplify=False, device="cpu", verbose=False)
    picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: picture.numpy()})[0])
    with torch.no_grad():
        expected = load_model(path)(picture)[0]
    return {"relative_difference": float((found - expected).abs().max() / expected.abs().max())}


def main() -> None:
    """Run it at full size, print and write results.json; exit 1 unless the published size is reached and kept."""
    parser = argparse.ArgumentParser(description="YOLOv8x to about half, with the three training traps looked at.")
    parser.add_argument("--ratio", type=float, default=Settings.ratio)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    parser.add_argument("--trained", action="store_true", help="the last two traps on the digits base; trained.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.trained:
        with tempfile.TemporaryDirectory(prefix="paretoprune-half-") as folder:
            digits = HERE.parent / "digits"
            data = make_data(digits / "data")
            facts = trained_traps(digits / "yolov8n-digits.pt", data, 128, Path(folder))
        (HERE / "trained.json").write_text(json.dumps(facts, indent=1) + "\n")
        print(json.dumps(facts, indent=1))
        return
    with tempfile.TemporaryDirectory(prefix="paretoprune-half-") as folder:
        facts = run(Settings(ratio=asked.ratio), Path(folder))
    text = json.dumps({**facts, "published": PUBLISHED}, indent=1)
    asked.out.write_text(text + "\n")
    print(text)
    reached = facts["macs_g"][1] <= PUBLISHED["macs_g"][1] and facts["params"][1] <= PUBLISHED["params"][1]
    sys.exit(0 if reached and facts["our_training"]["params"] == facts["params"][1] else 1)


if __name__ == "__main__":
    main()
