"""What one validation costs beside the network itself, with and without prepared batches.

    python benchmarks/validation_cost.py studies/digits/yolov8n-digits.pt --data studies/digits/data/data.yaml

Each validation runs in a process forked from one that has everything imported, as a trial does. CPU seconds are those
of that process; `network` is the time inside the network's forward.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from objectives.accuracy.measure import measure_accuracy
from pruning.checkpoints.checkpoint import load_model


def validate(model: Any, data: str, imgsz: int, shelf: Path | None, answer: Any) -> None:
    """Put (CPU seconds, seconds inside the network) of one validation into `answer`."""
    torch.set_num_threads(1)
    inside = 0.0
    forward = type(model).forward

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal inside
        began = time.process_time()
        try:
            return forward(self, *args, **kwargs)
        finally:
            inside += time.process_time() - began

    type(model).forward = timed
    began = time.process_time()
    measure_accuracy(model, data, imgsz=imgsz, shelf=shelf)
    answer.put((time.process_time() - began, inside))


def measured(*arguments: Any) -> tuple[float, float]:
    """One validation in a forked process."""
    context = multiprocessing.get_context("fork")
    answer = context.Queue()
    process = context.Process(target=validate, args=(*arguments, answer))
    process.start()
    found: tuple[float, float] = answer.get()
    process.join()
    return found


def main() -> None:
    """Print the two ways side by side."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    importlib.import_module("search.workers.preload")
    model: Any = load_model(asked.model)
    imgsz = int(model.args["imgsz"])
    with tempfile.TemporaryDirectory() as folder:
        shelf = Path(folder)
        measured(model, asked.data, imgsz, shelf)  # fills the shelf, and Ultralytics' cache of labels
        for name, place in (("prepared anew", None), ("prepared once", shelf)):
            found = [measured(model, asked.data, imgsz, place) for _ in range(asked.repeats)]
            total, inside = (statistics.median(column) for column in zip(*found, strict=True))
            print(f"{name}: {total:.2f} s, network {inside:.2f} s, all else {total - inside:.2f} s")
        print(f"shelf: {sum(path.stat().st_size for path in shelf.iterdir()) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
