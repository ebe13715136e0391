"""A fine-tune on squares or on rectangles, of a network that runs on rectangles.

    python benchmarks/rectangles.py [--ratios 0.3 0.5] [--epochs 2]

Pairs of scenes of studies/digits side by side (make demo makes the scenes) are pictures of 128 x 256, which the bundled
yolov8n sees as well as single scenes. It is pruned uniformly and repaired with a fine-tune at 128 x 256, and with one
at 256, whose squares are half padding; both are validated at 128 x 256. Processor seconds are those of the repair.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import yaml

from objectives.accuracy.measure import measure_accuracy
from pruning import trace
from pruning.checkpoints.checkpoint import load_model
from pruning.recovery.finetune import Recovery
from pruning.recovery.repair import Origin, repair

DIGITS = Path(__file__).parents[1] / "studies" / "digits"
BASE, SHAPE = DIGITS / "yolov8n-digits.pt", (128, 256)


def make_pairs(out: Path, train: int = 400, val: int = 150) -> Path:
    """Write pictures of two scenes side by side; return their data.yaml."""
    for split, count in (("train", train), ("val", val)):
        files = sorted((DIGITS / "data" / "images" / split).glob("*"))
        for folder in ("images", "labels"):
            (out / folder / split).mkdir(parents=True)
        for number in range(count):
            pair = files[2 * number : 2 * number + 2]
            picture = np.concatenate([cv2.imread(str(file)) for file in pair], axis=1)
            cv2.imwrite(str(out / "images" / split / f"{number:04}.png"), picture)
            rows = [row for place, file in enumerate(pair) for row in moved(file, split, place)]
            (out / "labels" / split / f"{number:04}.txt").write_text("\n".join(rows) + "\n")
    names = yaml.safe_load((DIGITS / "data" / "data.yaml").read_text())["names"]
    document = {"path": str(out), "train": "images/train", "val": "images/val", "names": names}
    (out / "data.yaml").write_text(yaml.safe_dump(document))
    return out / "data.yaml"


def moved(file: Path, split: str, place: int) -> list[str]:
    """Return the labels of a scene that is the left (0) or right (1) half of a picture."""
    labels = DIGITS / "data" / "labels" / split / f"{file.stem}.txt"
    lines = labels.read_text().splitlines() if labels.exists() else []
    rows = [tuple(map(float, line.split()[:5])) for line in lines]
    return [f"{int(kind)} {(x + place) / 2:.5f} {y:.5f} {w / 2:.5f} {h:.5f}" for kind, x, y, w, h in rows]


def main(ratios: list[float], epochs: float) -> None:
    """Print a Markdown table."""
    with tempfile.TemporaryDirectory() as folder:
        data, base = make_pairs(Path(folder) / "pairs"), load_model(BASE)
        graph = trace(base, torch.zeros(1, 3, *SHAPE))

        def accuracy(model: torch.nn.Module) -> str:
            found = measure_accuracy(model, data, imgsz=SHAPE, resamples=100).figures["map50_95"]
            return f"{found.value:.3f} ± {found.standard_error:.3f}"

        print(f"base: {accuracy(base)}\n\n| ratio | fine-tuned at | mAP50-95 | processor seconds |\n|---|---|---|---:|")
        for ratio in ratios:
            plan = graph.plan(ratio, round_to=8)
            for name, size in (("128 x 256", SHAPE), ("256 x 256", 256)):
                began, how = time.process_time(), Recovery(epochs=epochs, imgsz=size)
                origin, work = Origin(plan, base), Path(folder) / f"{ratio}-{name}"
                found = repair(plan.apply(base), data, how, origin=origin, base=BASE, work_dir=work).model
                spent = time.process_time() - began
                print(f"| {ratio:g} | {name} | {accuracy(found)} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.3, 0.5])
    parser.add_argument("--epochs", type=float, default=2)
    asked = parser.parse_args()
    main(asked.ratios, asked.epochs)
