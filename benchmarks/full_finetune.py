r"""How long a full fine-tune of a pruned network is worth it: its validation figure after every epoch.

    python benchmarks/full_finetune.py --bases bccd-yolov8n bccd-yolo11n --levels 0.5 0.7 [--device 0]
    python benchmarks/full_finetune.py --picture docs/full-finetune.svg        # and prints the table

The plans are those of recovery_recipe.py. Schedules: `cool-down` (constant until the figure rests, as in `finetune`),
`linear` (to zero over all epochs). Rates: `floor` (as in `finetune`: at least FULL_RUN_RATE), `damage` (as in a trial,
without that floor), or a number. Rows go to benchmarks/data/full-finetune.jsonl; what is there is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import matplotlib
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the repository

from benchmarks.recovery_recipe import ROOT, SUBJECTS, Bench
from pruning.recovery import finetune
from pruning.recovery.finetune import Recovery
from pruning.recovery.rate_schedule import PATIENCE, CoolDown, linear_decay
from pruning.recovery.repair import Origin, repair

ROWS = ROOT / "benchmarks" / "data" / "full-finetune.jsonl"
KEYS = ("base", "level", "schedule", "epochs", "patience", "rate")


class Linear(CoolDown):
    """To zero over all epochs, whatever the figure does."""

    def length(self, figure: float, epochs: int) -> int:
        """Return `epochs`."""
        return epochs

    def share(self, step: int, steps: int) -> float:
        """Return the share of the first rate at `step`."""
        return linear_decay(step, steps)


def rows() -> list[dict[str, Any]]:
    """The measured rows so far."""
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.is_file() else []


def measured(bench: Bench, level: float, asked: argparse.Namespace) -> dict[str, Any]:
    """One fine-tune; `curve` is the figure after each epoch."""
    plan, share = bench.plans()[level]
    figures: list[float] = []

    def fitness(model: Any) -> float:
        figures.append(bench.accuracy(model).figures[bench.figure].value)
        print(f"{bench.subject.name} {level} epoch {len(figures)}: {figures[-1]:.4f}", flush=True)
        return figures[-1]

    train: dict[str, Any] = {"patience": asked.patience}
    if asked.rate not in ("floor", "damage"):
        train["lr0"] = float(asked.rate)
    began = time.perf_counter()
    least = finetune.FULL_RUN_RATE if asked.rate == "floor" else finetune.LR_RANGE[0]
    schedule = CoolDown if asked.schedule == "cool-down" else Linear
    how = Recovery(epochs=asked.epochs, imgsz=bench.subject.imgsz, device=asked.device, train=train)
    replaced = mock.patch.multiple(finetune, FULL_RUN_RATE=least, CoolDown=schedule)
    with tempfile.TemporaryDirectory() as folder, replaced:
        found = repair(
            plan.apply(bench.base), bench.subject.data, how, origin=Origin(plan, bench.base),
            base=bench.subject.checkpoint, work_dir=Path(folder), fitness=fitness,
        )  # fmt: skip
    epochs = figures[:-3]  # then the start, the best epoch, and that with its statistics corrected again are judged
    return {
        "base": bench.subject.name,
        "level": level,
        "schedule": asked.schedule,
        "epochs": asked.epochs,
        "patience": asked.patience,
        "rate": asked.rate,
        "latency": round(share, 4),
        "curve": [round(figure, 4) for figure in epochs],
        "value": bench.accuracy(found.model).figures[bench.figure].value,
        "base_value": bench.reference.figures[bench.figure].value,
        "seconds": round(time.perf_counter() - began),
        "device": "cpu" if asked.device == "cpu" else torch.cuda.get_device_name(int(asked.device)),
    }


def table() -> str:
    """Markdown, a line for each fine-tune."""
    head = ["base", "latency", "schedule", "patience", "rate", "epochs run", "best epoch", "accuracy", "of the base's"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in sorted(rows(), key=lambda row: (row["base"], -row["level"], row["schedule"], row["epochs"])):
        schedule = (
            f"{row['schedule']}, {row['epochs']} at most"
            if row["schedule"] == "cool-down"
            else f"linear, {row['epochs']}"
        )
        patience = str(row["patience"]) if row["schedule"] == "cool-down" else ""
        best = 1 + max(range(len(row["curve"])), key=row["curve"].__getitem__)
        figures = f"{row['value']:.3f} | {row['base_value']:.3f}"
        facts = f"{row['base']} | {row['latency']:.2f} | {schedule} | {patience} | {row['rate']}"
        lines.append(f"| {facts} | {len(row['curve'])} | {best} | {figures} |")
    return "\n".join(lines)


def picture(path: Path) -> None:
    """Draw the curves, a panel for each base and level."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    found = rows()
    panels = sorted({(row["base"], row["level"]) for row in found}, key=lambda key: (key[0], -key[1]))
    columns = 3
    figure, axes = pyplot.subplots(
        -(-len(panels) // columns), columns, figsize=(12, 3 * -(-len(panels) // columns)), squeeze=False
    )
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, (base, level) in zip(axes.flat, panels, strict=False):
        own = [row for row in found if (row["base"], row["level"]) == (base, level)]
        for row in own:
            patience = f", patience {row['patience']}" if row["schedule"] == "cool-down" else ""
            rate = row["rate"] if row["rate"][0].isdigit() else f"by {row['rate']}"
            name = f"{row['schedule']} {row['epochs']}{patience}, rate {rate}"
            axis.plot(range(1, len(row["curve"]) + 1), row["curve"], lw=1.2, label=name)
        axis.axhline(own[0]["base_value"], color="black", ls=":", lw=1)
        axis.set_title(f"{base} at {own[0]['latency']:.2f} of the latency", fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.legend(fontsize=6, frameon=False)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Fine-tune what is asked for, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="*", default=[], metavar="BASE")
    parser.add_argument("--levels", nargs="+", type=float, default=[0.5])
    parser.add_argument("--schedule", choices=("cool-down", "linear"), default="cool-down")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--patience", type=int, default=PATIENCE)
    parser.add_argument("--rate", default="floor", help="floor, damage, or a number")
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    for subject in (subject for subject in SUBJECTS if subject.name in asked.bases):
        bench = Bench(subject, asked.device)
        for level in asked.levels:
            key = (subject.name, level, asked.schedule, asked.epochs, asked.patience, asked.rate)
            if key not in {tuple(row[name] for name in KEYS) for row in rows()}:
                row = measured(bench, level, asked)
                with ROWS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    if asked.picture is not None:
        picture(asked.picture)
    print(table())


if __name__ == "__main__":
    main()
