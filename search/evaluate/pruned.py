"""A candidate pruned, timed, recovered and scored: the evaluator of every real search.

Latency is taken before recovery: time does not depend on the values of the weights, and a model that cannot be
exported fails in seconds instead of after the fine-tune.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from objectives.accuracy import measure_accuracy
from objectives.latency import FLAGS, Latency, compare, measuring_lock
from objectives.objective import Estimate
from objectives.runtimes import export_for_timing, open_runner
from pruning import ChannelGraph, Cost, Plan, Scores
from pruning.calibration import calibration_batches, recalibrate
from pruning.checkpoint import load_model, save_model
from pruning.recover import Recovery, recover
from search.evaluate.evaluator import Realised
from search.evaluate.phases import Phases
from search.space import Space
from search.spec import LatencySpec, StudySpec
from search.trial import Candidate, Measurement
from search.weights import FILE as WEIGHTS

PHASES = ("plan", "export", "latency", "calibrate", "recover", "accuracy", "save")


@dataclass(frozen=True)
class Reference:
    """What candidates are timed against: the base's ONNX, and its milliseconds measured once per study."""

    onnx: Path
    model: Path
    imgsz: int
    latency_ms: float


@dataclass(frozen=True)
class PruningEvaluator:
    """Measures candidates of one study. Plain data, so that it travels to the trial's process.

    Args:
        graphs: input size -> the model traced at that size; the groups are the same, the MACs are not.
        scores: importance of every channel, made once, so that all trials rank channels alike.
        device: where to train and validate, as Ultralytics names it.
    """

    spec: StudySpec
    space: Space
    graphs: Mapping[int, ChannelGraph]
    scores: Scores
    reference: Reference
    device: str

    def realise(self, candidate: Candidate) -> Realised:
        """See `Evaluator.realise`."""
        plan = self.plan(candidate)
        return Realised(f"{plan.digest}:{candidate.imgsz}:{candidate.precision}", plan.widths)

    def plan(self, candidate: Candidate) -> Plan:
        """The channels that the candidate keeps."""
        ratios = self.space.group_ratios(candidate)
        graph = self.graphs[candidate.imgsz]
        return graph.plan(ratios, importance=self.scores, round_to=self.spec.space.round_to)

    def evaluate(self, candidate: Candidate, number: int, seed: int, work_dir: Path) -> Measurement:
        """See `Evaluator.evaluate`. Writes weights.pt unless the study keeps none."""
        phase = Phases(work_dir, PHASES)
        size = candidate.imgsz
        with phase("plan"):
            plan = self.plan(candidate)
            model = plan.apply(load_model(self.spec.model))
            cost = plan.cost()
        with phase("export"):
            onnx = export_for_timing(model, work_dir / "timing.onnx", imgsz=size, batch=self.spec.latency.batch)
        with phase("latency"):
            latency = self._latency(model, onnx, size, seed)
        figures = cost_figures(cost, onnx) | {"latency_ms": latency.in_ms(self.reference.latency_ms)}
        onnx.unlink()
        with phase("calibrate"):
            recalibrate(model, calibration_batches(self.spec.data, size, task=task_of(model), seed=seed))
        with phase("recover"):
            model = recover_by(self.spec, model, self.device, size, seed, work_dir / "recover", phase)
        with phase("accuracy"):
            accuracy = measure_accuracy(
                model, self.spec.data, imgsz=size, device=self.device, work_dir=work_dir / "accuracy"
            )
        with phase("save"):
            self._save(model, plan, number, work_dir)
        for folder in ("recover", "accuracy"):  # Ultralytics' own files
            shutil.rmtree(work_dir / folder, ignore_errors=True)
        return Measurement(
            figures={**accuracy.figures, **figures},
            widths=plan.widths,
            plan=plan.to_json(),
            digest=plan.digest,
            seconds=phase.seconds,
            per_class=accuracy.per_class,
            notes=latency_notes(latency),
        )

    def _latency(self, model: nn.Module, onnx: Path, imgsz: int, seed: int) -> Latency:
        """Candidate against base, interleaved, while no other worker of this machine is timing."""
        spec, base = self.spec.latency, self.reference
        candidate = open_timed(spec, onnx, model, imgsz)
        reference = open_timed(spec, base.onnx, base.model, base.imgsz)
        with measuring_lock(lock_path()):
            return compare(candidate, reference, cap_s=spec.seconds, seed=seed)

    def _save(self, model: nn.Module, plan: Plan, number: int, work_dir: Path) -> None:
        if self.spec.keep.weights != "none":
            save_model(model, work_dir / WEIGHTS, paretoprune_trial=number, paretoprune_plan=plan.to_json())


def recover_by(
    spec: StudySpec, model: nn.Module, device: str, imgsz: int, seed: int, folder: Path, phase: Phases
) -> nn.Module:
    """The fine-tune that the study's `recover` describes, with the base as teacher; `folder` is Ultralytics' own."""
    asked = spec.recover
    if not asked.epochs:
        return model
    recovery = Recovery(
        epochs=asked.epochs,
        fraction=asked.fraction,
        distill=asked.distill,
        imgsz=imgsz,
        batch=asked.batch,
        device=device,
        seed=seed,
        train=asked.train,
    )
    return recover(model, spec.data, recovery, base=Path(spec.model), work_dir=folder, on_progress=phase.advance)


def open_timed(spec: LatencySpec, onnx: Path, model: nn.Module | Path, imgsz: int) -> Any:
    """A runner of the study's runtime: torch runs the module, every other runtime the ONNX file."""
    artefact = model if spec.runtime == "torch" else onnx
    return open_runner(
        artefact,
        runtime=spec.runtime,
        imgsz=imgsz,
        device=spec.device,
        threads=spec.threads,
        batch=spec.batch,
    )


def cost_figures(cost: Cost, onnx: Path) -> dict[str, Estimate]:
    """params_m (10^6), macs_g (10^9 of one image), size_mb (10^6 bytes of the float32 ONNX file that is timed)."""
    exact = {
        "params_m": cost.params / 1e6,
        "macs_g": cost.macs / 1e9,
        "size_mb": onnx.stat().st_size / 1e6,
    }
    return {name: Estimate.exact(value) for name, value in exact.items()}


def latency_notes(latency: Latency) -> tuple[str, ...]:
    """One sentence per flag that the measuring raised."""
    return tuple(f"latency: {FLAGS.get(flag, flag)}" for flag in latency.flags)


def task_of(model: nn.Module) -> str:
    """detect, segment, pose, obb or classify."""
    return str(getattr(model, "task", "detect"))


def resolve_device(device: str) -> str:
    """`auto` is the first GPU, or the CPU where there is none."""
    if device != "auto":
        return device
    return "0" if torch.cuda.is_available() else "cpu"


def lock_path() -> Path:
    """The measuring lock of this user on this machine: two studies must not time at once either."""
    return Path(tempfile.gettempdir()) / f"paretoprune-{os.getuid()}.measuring.lock"


def group_rows(graph: ChannelGraph) -> tuple[dict[str, Any], ...]:
    """Rows of the snapshot's group table."""
    return tuple(_row(group) for group in graph.groups)


def _row(group: Any) -> dict[str, Any]:
    return {key: getattr(group, key) for key in ("name", "size", "stage", "frozen", "tie")}


def sizes_of(spec: StudySpec) -> Iterable[int]:
    """Input sizes to trace at: the base's and those that are searched."""
    return dict.fromkeys((spec.imgsz, *spec.sizes))
