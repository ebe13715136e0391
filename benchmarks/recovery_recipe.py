r"""Which short fine-tune loses nothing on the unpruned base and repairs most of a pruned one? One row per recipe.

    python benchmarks/recovery_recipe.py studies/digits/yolov8n-digits.pt \
        --data studies/digits/data/data.yaml --imgsz 128

Every recipe starts from the same weights; accuracy is measured on the saved and reloaded half-precision file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from objectives.accuracy import measure_accuracy
from pruning import trace
from pruning.calibration import calibration_batches, recalibrate
from pruning.checkpoint import load_model, save_model
from pruning.recover import Recovery, recover

RECIPES: dict[str, dict[str, Any]] = {
    "rate 1e-4": {"lr0": 1e-4},
    "rate 3e-4": {"lr0": 3e-4},
    "rate 1e-3": {"lr0": 1e-3},
    "rate 2e-3": {"lr0": 2e-3},
    "SGD, rate 5e-3": {"optimizer": "SGD", "lr0": 5e-3, "momentum": 0.9},
    "rate by damage": {},
}
"""Ours is the last one: no `lr0`, so the rate is proportional to the measured damage."""


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    base = load_model(options.model)
    graph = trace(base, torch.zeros(1, 3, options.imgsz, options.imgsz))
    plan = graph.plan(options.ratio, round_to=8)

    def pruned() -> nn.Module:
        small = plan.apply(base)
        recalibrate(small, calibration_batches(options.data, options.imgsz))
        return small

    def accuracy(model: nn.Module) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.pt"
            save_model(model, path)
            found = measure_accuracy(load_model(path), options.data, imgsz=options.imgsz, work_dir=Path(folder))
        return found.figures["map50_95"].value

    yield {"recipe": "base", "unpruned": accuracy(base), "pruned": accuracy(plan.apply(base))}
    yield {"recipe": "re-calibrated", "unpruned": None, "pruned": accuracy(pruned())}
    for name, train in RECIPES.items():
        if options.only and name not in options.only:
            continue
        for distill in (False, True) if options.distill else (False,):
            row: dict[str, Any] = {"recipe": name + (" + teacher" if distill else "")}
            for case, start in (("unpruned", load_model(options.model)), ("pruned", pruned())):
                recovery = Recovery(
                    epochs=options.epochs, fraction=options.fraction, distill=distill, imgsz=options.imgsz, train=train
                )
                began = time.perf_counter()
                with tempfile.TemporaryDirectory() as folder:
                    done = recover(start, options.data, recovery, base=options.model, work_dir=Path(folder))
                row["seconds"] = time.perf_counter() - began
                row[case] = accuracy(done)
            yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, required=True)
    parser.add_argument("--ratio", type=float, default=0.3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--distill", action="store_true")
    parser.add_argument("--only", nargs="*")
    for row in rows(parser.parse_args()):
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
