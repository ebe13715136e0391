r"""What each step of the repair leaves of a base's accuracy, for every base that there is. One row a measurement.

    python studies/repair_bases.py                   # trains the bases that are not bundled; hours on two cores
    python benchmarks/recovery_recipe.py             # all bases, or name some: bccd-yolov8n pcb-yolov8n
    python benchmarks/recovery_recipe.py digits160-yolov8n --anew      # a base that was trained again: all its rows
    python benchmarks/recovery_recipe.py --write docs/recovery.md

Each base is measured unpruned and with three plans that allocation makes from its sensitivity, timed until they take
0.85, 0.7 and 0.5 of the base's time in ONNX Runtime: sliced, with statistics corrected, after 1, 3 and 10 epochs of
fine-tune, with layers solved for (reconstruction.py) before any or a few, and with the repair of version 0.1 (its
statistics measured anew on 256 clean images, one epoch, measured again).
Rows are appended to benchmarks/data/recovery.jsonl, plans lie beside it; what is there is not made again. LEFT_OUT
were not looked at while the repair was chosen.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the repository

from objectives.accuracy.measure import Accuracy, measure_accuracy
from objectives.latency.protocol import Latency, compare
from objectives.objective import MAIN_FIGURES
from objectives.paired import paired_errors
from objectives.runtimes.open import export_for_timing, open_side
from pruning import Plan, trace
from pruning.checkpoints.checkpoint import load_model, save_model
from pruning.recovery.bn_calibration import calibration_batches, measure_statistics
from pruning.recovery.finetune import Recovery, data_trainer, recover
from pruning.recovery.judge import TrainingLoss
from pruning.recovery.repair import Origin, damage_of, repair
from pruning.sensitivity import SensitivityProbe
from search.config.sections import SpaceSpec
from search.prepare.sensitivity_curves import sensitivity_curves
from search.propose.width_options import allocator_of
from search.run_folder.atomic import write_json
from search.space import Space
from search.trial import Candidate
from studies.repair_bases import BASES as TRAINED

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "benchmarks" / "data" / "recovery.jsonl"
PLANS = ROOT / "benchmarks" / "data" / "recovery-plans"
LEVELS = (1.0, 0.85, 0.7, 0.5)
IMAGES = 16
"""Images on which the sensitivity behind the plans is measured."""
BISECTIONS, NEAR = 8, 0.01
LEFT_OUT = ("bccd-yolo11n", "bccd-yolov8s", "pcb-yolov8s", "solar_cells-yolov8n-cls")
BEGIN, END = "<!-- recovery_recipe.py: begin -->", "<!-- recovery_recipe.py: end -->"


@dataclass(frozen=True)
class Subject:
    """A base, its data, its input size in px."""

    name: str
    checkpoint: Path
    data: Path
    imgsz: int


STUDIES = ROOT / "studies"
SUBJECTS = (
    Subject("digits-yolov8n", STUDIES / "digits" / "yolov8n-digits.pt", STUDIES / "digits" / "data" / "data.yaml", 128),
    Subject("digits-yolo11n", STUDIES / "digits" / "yolo11n-digits.pt", STUDIES / "digits" / "data" / "data.yaml", 128),
    Subject(
        "shapes-yolov8n-seg",
        STUDIES / "seg_shapes" / "yolov8n-seg-shapes.pt",
        STUDIES / "seg_shapes" / "data" / "data.yaml",
        160,
    ),
    *(Subject(base.name, base.checkpoint, base.data, base.imgsz) for base in TRAINED),
)


def rows() -> list[dict[str, Any]]:
    """The measured rows so far."""
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.is_file() else []


class Bench:
    """One base, its plans, and what is measured about them."""

    def __init__(self, subject: Subject, device: str = "cpu") -> None:
        self.subject, self.device = subject, device
        self.base = load_model(subject.checkpoint)
        self.task = str(getattr(self.base, "task", "detect"))
        self.figure = MAIN_FIGURES[self.task]
        self.reference = self.accuracy(self.base)
        self.graph = trace(self.base, torch.zeros(1, 3, subject.imgsz, subject.imgsz))

    def accuracy(self, model: nn.Module) -> Accuracy:
        """Of the file that a user would get: saved in half precision and read again."""
        with tempfile.TemporaryDirectory() as folder:
            save_model(model, Path(folder) / "model.pt")
            saved = load_model(Path(folder) / "model.pt")
            where = {"imgsz": self.subject.imgsz, "device": self.device, "work_dir": Path(folder)}
            return measure_accuracy(saved, self.subject.data, **where)

    def plans(self) -> dict[float, tuple[Plan, float]]:
        """Level -> the plan, and the share of the base's latency that it was measured to take."""
        path = PLANS / f"{self.subject.name}.json"
        if not path.is_file():
            rows = [(level, plan.to_json(), share) for level, plan, share in self._planned(path.parent)]
            write_json(path, {"plans": rows})
        return {level: (Plan.from_json(text).bind(self.base), share) for level, text, share in _plans_in(path)}

    def rank_anew(self) -> None:
        """Let the plans keep their widths, hence their latency, with the channels that this base ranks first."""
        path = PLANS / f"{self.subject.name}.json"
        rows = [(level, self._ranked_anew(Plan.from_json(text)), share) for level, text, share in _plans_in(path)]
        write_json(path, {"plans": [(level, plan.to_json(), share) for level, plan, share in rows]})

    def _ranked_anew(self, plan: Plan) -> Plan:
        widths, full = plan.widths, self.graph.plan(0.0).widths
        # a hair more than the ratio: widths are rounded up
        ratios = {name: 1 - widths[name] / full[name] + 1e-9 for name in widths if 0 < widths[name] < full[name]}
        found = self.graph.plan(ratios, "l2", removed=plan.removed)
        if found.widths != widths:
            raise SystemExit(f"{self.subject.name}: a plan came out with other widths")
        return found

    def _planned(self, folder: Path) -> Iterator[tuple[float, Plan, float]]:
        space = Space.from_graph(self.graph, SpaceSpec(ratio=(0.0, 0.9), depth=True), (self.subject.imgsz,))
        scores = self.graph.score(self.base, "l2")
        images = calibration_batches(self.subject.data, self.subject.imgsz, IMAGES, IMAGES, self.task)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):  # plans only: every figure is in float32
            probe = SensitivityProbe(self.base, self.graph, list(images), scores, 8)
            curves = sensitivity_curves(probe, space, folder / self.subject.name)
        allocator = allocator_of(self.graph, space, curves, 8)

        def plan_of(candidate: Candidate) -> Plan:
            ratios = space.group_ratios(candidate)
            return self.graph.plan(ratios, scores, round_to=8, removed=candidate.removed)

        yield 1.0, self.graph.plan(0.0, scores), 1.0
        for level in LEVELS[1:]:
            low, high = 0.05, 1.0
            found: list[tuple[float, Plan, float]] = []
            while len(found) < BISECTIONS and not (found and found[-1][0] < NEAR):
                middle = (low + high) / 2
                plan = plan_of(allocator.within(middle))
                share = self.latency(plan).ratio.value
                found.append((abs(share - level), plan, share))
                low, high = (middle, high) if share < level else (low, middle)
            _, plan, share = min(found, key=lambda one: one[0])
            yield level, plan, share

    def latency(self, plan: Plan) -> Latency:
        """The plan's against the base's, interleaved, ONNX Runtime with one thread."""
        size = self.subject.imgsz
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for name, model in (("base", self.base), ("pruned", plan.apply(self.base))):
                files.append(export_for_timing(model, Path(folder) / f"{name}.onnx", imgsz=size))
            reference, candidate = (open_side(file, 4, runtime="onnxruntime", imgsz=size) for file in files)
            return compare(candidate, reference, cap_s=6.0)

    def row(self, plan: Plan, level: float, share: float, step: str) -> dict[str, Any]:
        """One measurement."""
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            model, facts = STEPS[step](self, Origin(plan, self.base), Path(folder))
        seconds = time.perf_counter() - began
        found = self.accuracy(model)
        assert plan.graph is not None
        cost, full = plan.cost(), plan.graph.cost()
        return {
            "base": self.subject.name,
            "level": level,
            "latency": round(share, 4),
            "step": step,
            "figure": self.figure,
            "value": found.figures[self.figure].value,
            "base_value": self.reference.figures[self.figure].value,
            "paired_error": paired_errors(found.replicates, self.reference.replicates).get(self.figure),
            "params": cost.params / full.params,
            "macs": cost.macs / full.macs,
            "seconds": round(seconds, 1),
            "device": "cpu" if self.device == "cpu" else torch.cuda.get_device_name(int(self.device)),
            **facts,
        }


def _plans_in(path: Path) -> list[tuple[float, str, float]]:
    return [(level, text, share) for level, text, share in json.loads(path.read_text())["plans"]]


Repaired = tuple[nn.Module, Mapping[str, Any]]


def sliced(bench: Bench, origin: Origin, folder: Path) -> Repaired:
    """No repair."""
    return origin.plan.apply(bench.base), {}


def repaired(epochs: int, reconstruct: bool) -> Callable[[Bench, Origin, Path], Repaired]:
    """The repair of a trial, or that from before layers were reconstructed."""

    def run(bench: Bench, origin: Origin, folder: Path) -> Repaired:
        subject = bench.subject
        asked = Recovery(epochs=epochs, reconstruct=reconstruct, imgsz=subject.imgsz, device=bench.device)
        small = origin.plan.apply(bench.base)
        found = repair(small, subject.data, asked, origin=origin, base=subject.checkpoint, work_dir=folder)
        return found.model, {"steps": [asdict(step) for step in found.steps]}

    return run


def remeasured(bench: Bench, origin: Origin, folder: Path) -> Repaired:
    """Statistics measured anew on clean images."""
    small = origin.plan.apply(bench.base)
    measure_statistics(small, calibration_batches(bench.subject.data, bench.subject.imgsz, task=bench.task))
    return small, {}


def repaired_before(bench: Bench, origin: Origin, folder: Path) -> Repaired:
    """The whole repair of version 0.1."""
    subject, asked = bench.subject, Recovery(imgsz=bench.subject.imgsz, device=bench.device)
    small, _ = remeasured(bench, origin, folder)
    judge = TrainingLoss.of(data_trainer(small, subject.data, asked, folder))
    damage = damage_of(judge.losses(small), judge.losses(bench.base))
    tuned = recover(small, subject.data, asked, base=subject.checkpoint, damage=damage, work_dir=folder)
    measure_statistics(tuned, calibration_batches(subject.data, subject.imgsz, task=bench.task))
    return tuned, {}


STEPS: Mapping[str, Callable[[Bench, Origin, Path], Repaired]] = {
    "sliced": sliced,
    "statistics": repaired(0, reconstruct=False),
    "0.1: statistics": remeasured,
    "0.1: 1 epoch": repaired_before,
    "1 epoch": repaired(1, reconstruct=False),
    "3 epochs": repaired(3, reconstruct=False),
    "10 epochs": repaired(10, reconstruct=False),
    "solved": repaired(0, reconstruct=True),
    "solved, 1 epoch": repaired(1, reconstruct=True),
    "solved, 3 epochs": repaired(3, reconstruct=True),
}


def measure(subject: Subject, steps: list[str], levels: list[float], device: str) -> None:
    """Append the rows of a base that are not there."""
    done = {(row["base"], row["level"], row["step"]) for row in rows()}
    missing = [(level, step) for step in steps for level in levels if (subject.name, level, step) not in done]
    if not missing:
        return
    bench = Bench(subject, device)
    plans = bench.plans()
    for level, step in missing:
        row = bench.row(*_at(plans, level), step)
        with ROWS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{subject.name:24s} {level:.2f} {step:16s} {row['value']:.4f} of {row['base_value']:.4f}", flush=True)


def forget(subject: Subject) -> None:
    """Drop the rows of a base that was trained again, and rank the channels of its plans by the new weights."""
    Bench(subject).rank_anew()
    ROWS.write_text("".join(json.dumps(row) + "\n" for row in rows() if row["base"] != subject.name))


def _at(plans: Mapping[float, tuple[Plan, float]], level: float) -> tuple[Plan, float, float]:
    plan, share = plans[level]
    return plan, level, share


def table() -> str:
    """Markdown: a table for each level, a row for each base."""
    found = {(row["base"], row["level"], row["step"]): row for row in rows()}
    names = [subject.name for subject in SUBJECTS if any(key[0] == subject.name for key in found)]
    return "\n".join(_level_table(found, names, level) for level in LEVELS)


def _level_table(found: Mapping[tuple[str, float, str], dict[str, Any]], names: list[str], level: float) -> str:
    title = "The unpruned base, through the same repair" if level == 1 else f"At {level:g} of the base's latency"
    steps = [step for step in STEPS if any((name, level, step) in found for name in names)]
    head = ["base", "accuracy", "parameters left", "latency", *steps]
    lines = [f"**{title}**", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for name in names:
        cells = {step: found[name, level, step] for step in STEPS if (name, level, step) in found}
        if not cells:
            continue
        any_row = next(iter(cells.values()))
        mark = " *" if name in LEFT_OUT else ""
        facts = [f"{any_row['base_value']:.3f}", f"{any_row['params']:.2f}", f"{any_row['latency']:.2f}"]
        figures = [_cell(cells.get(step)) for step in steps]
        lines.append(f"| {name}{mark} | {' | '.join([*facts, *figures])} |")
    return "\n".join([*lines, ""])


def _cell(row: Mapping[str, Any] | None) -> str:
    """The figure with the paired error of its difference to the base, in thousandths."""
    if row is None:
        return ""
    error = row["paired_error"]
    return f"{row['value']:.3f}" if error is None else f"{row['value']:.3f} ({1000 * error:.0f})"


def write(document: Path) -> None:
    """Put the table between the marks of a document."""
    text = document.read_text()
    before, rest = text.split(BEGIN)
    document.write_text(f"{before}{BEGIN}\n\n{table()}\n{END}{rest.split(END)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bases", nargs="*", metavar="BASE", help=", ".join(subject.name for subject in SUBJECTS))
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--levels", nargs="+", type=float, choices=LEVELS, default=list(LEVELS))
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    parser.add_argument("--anew", action="store_true", help="drop the rows of the bases: they were trained again")
    parser.add_argument("--write", type=Path, help="a document that takes the table")
    asked = parser.parse_args()
    if asked.write is not None:
        write(asked.write)
        return
    if asked.anew and not asked.bases:
        parser.error("--anew: name the bases")
    for subject in SUBJECTS:
        if (not asked.bases or subject.name in asked.bases) and subject.checkpoint.exists():
            if asked.anew:
                forget(subject)
            measure(subject, asked.steps, asked.levels, asked.device)
    print(table())


if __name__ == "__main__":
    main()
