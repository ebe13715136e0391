"""What each detection level of a base is worth: assignments by score and by number, and accuracy without it.

    python benchmarks/levels.py studies/bccd/bases/bccd-yolov8n.pt studies/bccd/data/data.yaml 320

No fine-tune; accuracy is that of the file as saved, on the validation split.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from ultralytics.utils.tal import TaskAlignedAssigner

from objectives.accuracy.measure import measure_accuracy
from objectives.objective import MAIN_FIGURES
from pruning import trace
from pruning.checkpoints.checkpoint import load_model, save_model
from pruning.recovery.level_use import level_use
from pruning.structure.level_removal import Pyramid, pyramid_of


class Numbers:
    """Cells with an object by level, whatever their score."""

    def __init__(self, pyramid: Pyramid) -> None:
        self.pyramid, self.found = pyramid, np.zeros(len(pyramid.names))

    def __call__(self, module: nn.Module, _: Any, assigned: Any) -> None:
        if isinstance(module, TaskAlignedAssigner):
            pieces = assigned[3].split(self.pyramid.cells_of(assigned[3].shape[1]), dim=1)
            self.found += [int(piece.sum()) for piece in pieces]


def main(base: Path, data: Path, imgsz: int) -> None:
    """Print a row for each level, and for every set of levels that can go."""
    model: Any = load_model(base)
    pyramid = pyramid_of(model)
    if pyramid is None:
        raise SystemExit(f"{base}: no head with levels")
    with TemporaryDirectory() as folder:
        work, numbers = Path(folder), Numbers(pyramid)
        handle = register_module_forward_hook(numbers)
        used = level_use(model, data, imgsz=imgsz, device="cpu", work_dir=work)
        handle.remove()
        if used is None:
            raise SystemExit(f"{data}: no objects")
        print(f"{used.objects} objects on {used.images} images; shares by score and by number of cells")
        for name, number in zip(pyramid.names, numbers.found / numbers.found.sum(), strict=True):
            print(f"  {name}  {used.shares[name]:.2e}  {number:.4f}")
        graph = trace(model, torch.zeros(1, 3, imgsz, imgsz))
        names = [level.path for level in graph.levels]
        figure, whole = MAIN_FIGURES[str(model.task)], graph.cost()
        for removed in ((), *(chosen for size in (1, 2) for chosen in combinations(names, size))):
            if len(removed) < len(pyramid.names):
                plan = graph.plan(0.0, removed=removed)
                save_model(plan.apply(model), work / "without.pt", paretoprune_plan=plan.to_json())
                without = load_model(work / "without.pt")
                found = measure_accuracy(without, data, imgsz=imgsz, device="cpu", work_dir=work, resamples=2)
                cost = plan.cost()
                print(
                    f"without {' and '.join(removed) or 'nothing':12} {figure} {found.figures[figure].value:.4f}  "
                    f"parameters {cost.params / whole.params:.3f}  MACs {cost.macs / whole.macs:.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
