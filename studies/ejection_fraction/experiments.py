"""Structured against unstructured pruning of the ejection-fraction regressor; fine-tunes keep what was pruned.

    python studies/ejection_fraction/experiments.py

trains the base, removes single weights (smallest |w| of the whole network) at 0.5, 0.8, 0.9 and channels (smallest L2
norm, every group) at 0.3, 0.5, 0.7, fine-tunes each, measures, and writes results.json, results.csv and figures.png
beside this file; networks go to runs/. Latency is that of one clip on ONNX Runtime, one thread, interleaved with the
base. `--data` takes the folder of EchoNet-Dynamic.
"""

from __future__ import annotations

import argparse
import copy
import csv
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[2]))  # the repository
from pruning import ChannelGraph, trace
from pruning.checkpoints.checkpoint import count_parameters
from pruning.recovery.bn_calibration import BaseMoments, match_statistics
from pruning.recovery.weight_masks import sparsity, unstructured
from search.commands.timing.bench import bench, order_of
from search.config.inputs.user_code import UserReference
from search.evaluate.user_task import build, save_plain
from search.evaluate.workload import example_input
from studies.ejection_fraction import ef
from studies.ejection_fraction.echonet import Clips, read_clips
from studies.ejection_fraction.make_clips import make_clips

HERE = Path(__file__).resolve().parent
UNSTRUCTURED, STRUCTURED = (0.5, 0.8, 0.9), (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Row:
    """One network. Sparsity is the share of zero weights, 0 to 1; MAE in per cent; parameters and MACs are counted."""

    name: str
    kind: str
    ratio: float
    params: int
    macs: int
    sparsity_before: float
    sparsity_after: float
    mae: float
    mae_untuned: float
    latency_ms: float = 0.0
    latency_ratio: float = 1.0
    latency_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How long to train, and where the networks go."""

    train: Clips
    val: Clips
    work: Path
    epochs: int = 6
    tune_epochs: int = 2
    seed: int = 42
    unstructured: tuple[float, ...] = UNSTRUCTURED
    structured: tuple[float, ...] = STRUCTURED
    seconds: float = 4.0
    say: Callable[[str], None] = print

    def trained(self, model: nn.Module, epochs: int, rate: float, **keys: Any) -> nn.Module:
        """The same loop for the base and for every fine-tune."""
        return ef.train(model, self.train, epochs=epochs, seed=self.seed, rate=rate, **keys)

    def mae(self, model: nn.Module) -> float:
        """Mean absolute error of the validation clips, in per cent."""
        found = ef.errors(model.eval(), self.val)
        return sum(found) / len(found)


def run(plan: Plan) -> list[Row]:
    """All rows, the base first, timed."""
    base = _source(plan)
    began = time.perf_counter()
    plan.trained(base, plan.epochs, ef.RATE)
    plan.say(f"base trained in {time.perf_counter() - began:.0f} s")
    save_plain(base, plan.work / "base.pt")
    graph = trace(base, example_input(base, ef.SIZE))
    rows = [_row(plan, "base", "base", 0.0, base, graph.cost().macs, plan.mae(base), sparsity(base))]
    for row in itertools.chain(_unstructured(plan, base, graph), _structured(plan, base, graph)):
        rows.append(row)
        plan.say(f"{row.name}: MAE {row.mae:.2f}, {row.params:,} parameters, {100 * row.sparsity_after:.2f} % zeros")
    return _timed(plan, rows)


def _source(plan: Plan) -> nn.Module:
    """The untrained network, with the note from which its files are opened again."""
    plan.work.mkdir(parents=True, exist_ok=True)
    return build(UserReference(HERE / "ef.py", "untrained"))


def _unstructured(plan: Plan, base: nn.Module, graph: ChannelGraph) -> Iterator[Row]:
    for share in plan.unstructured:
        model = copy.deepcopy(base)
        masks = unstructured(model, share)
        masks.enforce(model)
        before, untuned = sparsity(model), plan.mae(model)
        plan.trained(model, plan.tune_epochs, ef.TUNE_RATE, masks=masks)
        save_plain(model, plan.work / f"unstructured-{share}.pt")
        yield _row(plan, f"unstructured-{share}", "unstructured", share, model, graph.cost().macs, untuned, before)


def _structured(plan: Plan, base: nn.Module, graph: ChannelGraph) -> Iterator[Row]:
    for ratio in plan.structured:
        chosen = graph.plan(ratio, "l2", round_to=8)
        small = chosen.apply(base)
        match_statistics(small, chosen, BaseMoments(base, _batches(plan.train)))
        macs, zeros, untuned = chosen.cost().macs, sparsity(small), plan.mae(small)
        plan.trained(small, plan.tune_epochs, ef.TUNE_RATE)
        save_plain(small, plan.work / f"structured-{ratio}.pt", paretoprune_plan=chosen.to_json())
        yield _row(plan, f"structured-{ratio}", "structured", ratio, small, macs, untuned, zeros)


def _batches(clips: Clips) -> Iterator[torch.Tensor]:
    for start in range(0, len(clips) - ef.BATCH + 1, ef.BATCH):
        yield ef.inputs_of(clips, slice(start, start + ef.BATCH))


def _row(
    plan: Plan, name: str, kind: str, ratio: float, model: nn.Module, macs: int, untuned: float, before: float
) -> Row:
    counts = (count_parameters(model), macs, before, sparsity(model))
    return Row(name, kind, ratio, *counts, plan.mae(model), untuned)


def _timed(plan: Plan, rows: Sequence[Row]) -> list[Row]:
    """The files of all rows, timed against the base's."""
    files = [str(plan.work / f"{row.name}.pt") for row in rows]
    found = bench(order_of([*files, f"imgsz={ef.SIZE}", f"seconds={plan.seconds}"]))
    return [
        replace(row, latency_ms=one.latency_ms.value, latency_ratio=one.ratio.value, latency_flags=one.flags)
        for row, one in zip(rows, found, strict=True)
    ]


def write(rows: Sequence[Row], facts: Mapping[str, Any], folder: Path) -> None:
    """results.json, results.csv and figures.png."""
    table = [asdict(row) for row in rows]
    (folder / "results.json").write_text(json.dumps({**facts, "rows": table}, indent=1) + "\n")
    with (folder / "results.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "latency_flags": " ".join(row["latency_flags"])} for row in table)
    draw(rows, folder / "figures.png")


def draw(rows: Sequence[Row], path: Path) -> None:
    """MAE against parameters and against latency; zeros are inside the parameters, so they move no point."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    pictures = zip(figure.subplots(1, 2), (_parameters_m, _latency_ms), strict=True)
    for axes, (heading, value) in pictures:
        for kind, marker in (("base", "s"), ("unstructured", "o"), ("structured", "^")):
            mine = [row for row in rows if row.kind == kind]
            axes.plot([value(row) for row in mine], [row.mae for row in mine], marker, label=kind)
            for row in mine[: None if kind != "base" else 0]:
                axes.annotate(f"{row.ratio:g}", (value(row), row.mae), textcoords="offset points", xytext=(6, 4))
        axes.set(xlabel=heading, ylabel="MAE, per cent of EF")
        axes.set_xlim(0, 1.15 * max(map(value, rows)))
        axes.set_ylim(0, 1.15 * max(row.mae for row in rows))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=80)


_parameters_m = ("parameters, millions", lambda row: row.params / 1e6)
_latency_ms = ("ms a clip, ONNX Runtime, one thread", lambda row: row.latency_ms)


def main() -> None:
    """Make the clips, run everything, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="EchoNet-Dynamic's folder; default: clips made by make_clips.py")
    parser.add_argument("--epochs", type=int, default=Plan.epochs)
    parser.add_argument("--tune-epochs", type=int, default=Plan.tune_epochs)
    parser.add_argument("--work", type=Path, default=HERE / "runs")
    parser.add_argument("--out", type=Path, default=HERE)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began, data = time.perf_counter(), asked.data or make_clips(HERE / "data")
    clips = [read_clips(data, split, ef.FRAMES, ef.SIZE) for split in ("train", "val")]
    rows = run(Plan(*clips, asked.work, asked.epochs, asked.tune_epochs))
    guess = sum(abs(float(value) - float(clips[0].ef.mean())) for value in clips[1].ef) / len(clips[1])
    facts = {
        "data": "EchoNet-Dynamic" if asked.data else "make_clips.py",
        "clips": {"train": len(clips[0]), "val": len(clips[1])},
        "frames": ef.FRAMES,
        "size": ef.SIZE,
        "epochs": asked.epochs,
        "tune_epochs": asked.tune_epochs,
        "mae_of_the_mean": guess,
        "seconds": round(time.perf_counter() - began),
    }
    write(rows, facts, asked.out)


if __name__ == "__main__":
    main()
