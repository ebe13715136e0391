"""Run folders to look at: a search that could have been, on a real model's groups and costs, in real files."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

from objectives.objective import Estimate
from pruning import ChannelGraph
from search.config.sections import SpaceSpec
from search.evaluate.pruning_evaluator import group_rows
from search.prepare.whatif_table import what_if_table
from search.run_folder.atomic import write_json
from search.run_folder.record import RunRecord
from search.space import Space
from search.study import Study
from search.trial import Candidate, Failure, FailureKind, Measurement
from tests import shelf

SIZE = 64
CLASSES = ("plane", "ship", "storage tank", "harbour")
SPACE = SpaceSpec(ratio=(0.0, 0.8), depth=True)


@cache
def graph() -> ChannelGraph:
    """yolo11n with four classes: nested blocks, attention, ties."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model: Any = DetectionModel("yolo11n.yaml", nc=len(CLASSES), verbose=False)
    return shelf.trace(model, torch.zeros(1, 3, SIZE, SIZE))


@cache
def space() -> Space:
    """One ratio per stage, blocks and two detection levels removable."""
    return Space.from_graph(graph(), SPACE, (SIZE,), levels=graph().levels[1:])


def candidate(chance: random.Random) -> Candidate:
    """Somewhere in the space."""
    strength = chance.uniform(0.05, 0.7)
    ratios = {d.name: min(0.8, max(0.0, chance.gauss(strength, 0.15))) for d in space().dimensions}
    removed = tuple(block.path for block in space().blocks if chance.random() < 0.08)
    return Candidate(ratios, SIZE, removed=removed)


def realised(one: Candidate) -> tuple[dict[str, int], int, int]:
    """(widths, params, macs) as a trial of the real search gets them."""
    plan = graph().plan(space().group_ratios(one), round_to=SPACE.round_to, removed=one.removed)
    cost = plan.cost()
    return plan.widths, cost.params, cost.macs


def measurement(one: Candidate, chance: random.Random) -> Measurement:
    """Exact costs; accuracy and latency of a plausible shape, with intervals."""
    widths, params, macs = realised(one)
    full = graph().cost()
    share = macs / full.macs
    accuracy = max(0.01, 0.52 - 0.3 * (1 - share) ** 3 - 0.05 * len(one.removed) / 12 - chance.expovariate(60))
    latency = 8.2 * (0.25 + 0.75 * share**0.8) * chance.uniform(0.98, 1.05)
    figures = {
        "map50_95": Estimate(accuracy, accuracy - 0.006, accuracy + 0.006),
        "latency_ms": Estimate(latency, latency * 0.988, latency * 1.013),
        "params_m": Estimate.exact(params / 1e6),
        "macs_g": Estimate.exact(macs / 1e9),
    }
    per_class = {name: min(1.0, accuracy * (0.7 + 0.2 * at)) for at, name in enumerate(CLASSES)}
    return Measurement(figures, widths, seconds={"recover": 140.0, "latency": 6.0}, per_class=per_class)


@dataclass(frozen=True)
class Studio:
    """A finished run of `count` trials, two of them failed, with samples, curves and the table of what-if."""

    folder: Path
    count: int = 30
    seed: int = 1
    name: str = "harbour"

    def write(self) -> Path:
        """Write the run and return its folder."""
        record = RunRecord(self.folder / "runs" / "prune" / self.name)
        record.path.mkdir(parents=True)
        record.args_path.write_text(yaml.safe_dump(self._study()))
        chance = random.Random(self.seed)
        record.write_environment({"machine": "workstation, 8 CPUs", "python": "3.11", "torch": "2.15.0"})
        record.write_groups(group_rows(graph()))
        record.write_base(measurement(Candidate({d.name: 0.0 for d in space().dimensions}, SIZE), random.Random(0)))
        for number in range(self.count):
            self._trial(record, number, chance)
        write_json(record.base_dir / "whatif.json", what_if_table({SIZE: graph()}, space(), SPACE.round_to))
        write_json(record.path / "sensitivity" / "curves.json", {"format": 1, "curves": _curves()})
        draw_samples(record.base_dir, "base")
        Study.load(record.path).refresh()
        self._say_finished(record)
        return record.path

    def _study(self) -> dict[str, Any]:
        return {
            "model": "best.pt",
            "data": "data.yaml",
            "imgsz": SIZE,
            "name": self.name,
            "project": str(self.folder / "runs" / "prune"),
            "search": {"trials": self.count, "hours": 9},
            "space": {"depth": True},
            "budgets": {"edge": {"latency_ms": 5.0}, "tiny": {"params_m": 0.6}},
            "constraints": {"latency_ms": "<=7.9"},
        }

    def _trial(self, record: RunRecord, number: int, chance: random.Random) -> None:
        one = candidate(chance)
        record.start_trial(number, one, "tpe" if number > 9 else "opening")
        if number in (4, 7):
            record.write_outcome(
                number, Failure(FailureKind.OUT_OF_MEMORY, f"CUDA out of memory, {number}.20 GiB asked")
            )
            return
        record.write_outcome(number, measurement(one, chance))
        draw_samples(record.trial_dir(number), f"trial {number}")

    def _say_finished(self, record: RunRecord) -> None:
        content = record.read_snapshot() or {}
        write_json(record.snapshot_path, {**content, "state": "finished"})


def draw_samples(folder: Path, label: str) -> None:
    """Two small pictures, as `evaluate/sample_images.py` leaves them."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for number in range(2):
        image = Image.new("RGB", (160, 120), (40 + 60 * number, 90, 110))
        ImageDraw.Draw(image).text((12, 50), label, fill=(255, 255, 255))
        image.save(folder / "samples" / f"{number}.jpg", quality=70)


def _curves() -> dict[str, Any]:
    ratios = [0.0, 0.4, 0.8]
    names = enumerate(d.name for d in space().dimensions)
    return {
        name: {"ratios": ratios, "divergences": [0.6 * math.tanh(r * at / 8) for r in ratios]} for at, name in names
    }
