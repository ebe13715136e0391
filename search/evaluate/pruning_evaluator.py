"""A candidate pruned, timed, recovered and scored: the evaluator of every real search.

Latency is taken before recovery: time does not depend on the values of the weights, and a model that cannot be
exported fails in seconds instead of after the fine-tune. Accuracy is that of the half-precision checkpoint as it was
saved and read again: what a user gets, not what was in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from objectives.accuracy.measure import Accuracy
from objectives.class_drop import largest_drop
from objectives.latency.model import LatencyModel
from objectives.latency.protocol import FLAGS, Latency, compare
from objectives.objective import MAIN_FIGURES, Estimate
from objectives.paired import Replicates, paired_errors
from objectives.runtimes.open import export_for_timing
from pruning import ChannelGraph, Cost, Plan, Scores
from pruning.channels import work_of
from pruning.checkpoints.checkpoint import file_digest
from pruning.recovery.finetune import Recovery
from pruning.recovery.judge import Verdict
from pruning.recovery.repair import Origin, Repaired
from search.config.sections import LatencySpec, RecoverSpec
from search.config.spec import StudySpec
from search.evaluate.evaluator import Realised
from search.evaluate.output_divergence import output_probe
from search.evaluate.reduced_precision import score, scored_file, timing_file
from search.evaluate.sample_images import FOLDER as SAMPLES
from search.evaluate.sample_images import draw_samples
from search.evaluate.timing.latency import alone, lock_path, open_timed
from search.evaluate.timing.latency_cache import Timings, conditions, latency_to_json, timing_key, widths_digest
from search.evaluate.timing.measurement_lock import Turnstile
from search.evaluate.timing.progress import Phases
from search.evaluate.timing.threads import limit_threads, share_of_cores
from search.evaluate.workload import load_model, measure_accuracy, repair, save_model
from search.run_folder.artefact_files import size_bytes
from search.run_folder.record import BATCHES
from search.run_folder.weights import FILE as WEIGHTS
from search.run_folder.weights import discard_weights
from search.space import Space
from search.trial import Candidate, Gate, Measurement, RepairStep


@dataclass(frozen=True)
class Reference:
    """What candidates are measured against: the base's ONNX, its milliseconds and its classes, once per study."""

    onnx: Path
    model: Path
    imgsz: int
    latency_ms: float
    per_class: Mapping[str, float] = field(default_factory=dict)
    replicates: Replicates = field(default_factory=dict)

    @property
    def shelf(self) -> Path:
        """Where the prepared validation batches of the study lie."""
        return self.onnx.parent / BATCHES

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.onnx.parent.parent


@dataclass(frozen=True)
class PruningEvaluator:
    """Measures candidates of one study. Plain data, so that it travels to the trial's process.

    Args:
        graphs: input size -> the model traced at that size; the groups are the same, the MACs are not.
        scores: importance of every channel, made once, so that all trials rank channels alike.
        device: where to train and validate, as Ultralytics names it.
        latency: predicts what a screened candidate would take; None where latency is not searched for.
    """

    spec: StudySpec
    space: Space
    graphs: Mapping[int, ChannelGraph]
    scores: Scores
    reference: Reference
    device: str
    latency: LatencyModel | None = None

    def realise(self, candidate: Candidate) -> Realised:
        plan = self.plan(candidate)
        return Realised(f"{plan.digest}:{candidate.imgsz}:{candidate.precision}", plan.widths)

    def plan(self, candidate: Candidate) -> Plan:
        """The channels that the candidate keeps."""
        ratios = self.space.group_ratios(candidate)
        graph = self.graphs[candidate.imgsz]
        round_to, removed = self.spec.space.round_to, candidate.removed
        return graph.plan(ratios, importance=self.scores, round_to=round_to, removed=removed)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, gate: Gate | None = None
    ) -> Measurement:
        """See `Evaluator.evaluate`. Leaves weights.pt unless the study keeps none."""
        limit_threads(share_of_cores(self.spec.search.workers))
        with Turnstile(lock_path()) as turns:
            phase = Phases(work_dir, turns.pause)
            score = self._score(candidate, phase)
            if gate is not None and score is not None and not gate.admits(score):
                return self._screened(candidate, score, phase)
            measured = replace(self._measured(candidate, number, seed, work_dir, phase, turns), score=score)
        for folder in ("recover", "accuracy"):  # Ultralytics' own files
            shutil.rmtree(work_dir / folder, ignore_errors=True)
        return measured

    def _score(self, candidate: Candidate, phase: Phases) -> float | None:
        """Divergence of the outputs once statistics are corrected; None where the study has no use for it."""
        if self.spec.search.sampler != "auto":
            return None
        with phase("score"):
            graph = self.graphs[self.spec.imgsz]
            probe = output_probe(self.spec, load_model(self.spec.model), graph, self.scores)
            return probe.divergence_of(self.plan(candidate))

    def _screened(self, candidate: Candidate, score: float, phase: Phases) -> Measurement:
        """What is known without an export and a fine-tune. The latency is predicted, with the prediction's interval."""
        plan = self.plan(candidate)
        cost = plan.cost()
        figures = {"params_m": Estimate.exact(cost.params / 1e6), "macs_g": Estimate.exact(cost.macs / 1e9)}
        if self.latency is not None:
            widths, graph = np.array([list(plan.widths.values())]), self.graphs[candidate.imgsz]
            ratio = self.latency.estimate(work_of(graph, widths, plan.removed, self.latency.tile)[0])
            figures["latency_ms"] = ratio.scaled(self.reference.latency_ms)
        return Measurement(
            figures=figures,
            widths=plan.widths,
            plan=plan.to_json(),
            digest=plan.digest,
            seconds=phase.seconds,
            notes=("screened: its outputs before a fine-tune promise too little; the latency is predicted",),
            score=score,
            screened=True,
        )

    def _measured(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, phase: Phases, turns: Turnstile
    ) -> Measurement:
        size = candidate.imgsz
        with phase("plan"):
            plan, base = self.plan(candidate), load_model(self.spec.model)
            model = plan.apply(base)
        with phase("export"):
            onnx = export_for_timing(model, work_dir / "timing.onnx", imgsz=size, batch=self.spec.latency.batch)
            timed = self._timed(model, onnx, candidate, work_dir / "timing")
        with phase("latency"):
            latency = self._latency(plan, model, timed, candidate, seed, turns)
        figures = cost_figures(plan.cost(), timed) | {"latency_ms": latency.in_ms(self.reference.latency_ms)}
        onnx.unlink()
        shutil.rmtree(work_dir / "timing", ignore_errors=True)
        with phase("recover"):
            origin, place = Origin(plan, base), work_dir / "recover"
            repaired = repair_by(self.spec, model, self.device, size, seed, place, phase, origin)
        with phase("save"):
            save_model(repaired.model, work_dir / WEIGHTS, paretoprune_trial=number, paretoprune_plan=plan.to_json())
            weights = file_digest(work_dir / WEIGHTS)
        with phase("accuracy"):
            shelf = self.reference.shelf
            place = work_dir / "accuracy"
            accuracy = accuracy_of(work_dir / WEIGHTS, self.spec, size, self.device, place, shelf, phase.beat)
            if candidate.precision != "fp32":
                accuracy = self._in_precision(accuracy, candidate, work_dir)
        with phase("samples"):
            samples = work_dir / SAMPLES
            draw_samples(work_dir / WEIGHTS, self.spec.data, imgsz=size, device=self.device, folder=samples)
        if self.spec.keep.weights == "none":
            discard_weights(work_dir / WEIGHTS)
        return Measurement(
            figures={**accuracy.figures, **guard_figures(self.reference.per_class, accuracy), **figures},
            widths=plan.widths,
            plan=plan.to_json(),
            digest=plan.digest,
            seconds=phase.seconds,
            per_class=accuracy.per_class,
            paired=paired_errors(accuracy.replicates, self.reference.replicates),
            notes=(*latency_notes(latency), *repair_notes(repaired)),
            timing=timing_facts(self.spec.latency, latency),
            weights=weights,
            repair=repair_steps(repaired),
        )

    def _timed(self, model: nn.Module, onnx: Path, candidate: Candidate, folder: Path) -> Path:
        """The file whose time and size count: the float32 ONNX, or the candidate's own."""
        if candidate.precision == "fp32":
            return onnx
        return timing_file(model, self.spec, candidate.precision, candidate.imgsz, folder)

    def _in_precision(self, accuracy: Accuracy, candidate: Candidate, work_dir: Path) -> Accuracy:
        """That of the quantised file, which stays beside the weights."""
        weights, size = work_dir / WEIGHTS, candidate.imgsz
        artefact = scored_file(weights, self.spec, candidate.precision, size, work_dir)
        scored = score(accuracy.figures, accuracy.per_class, weights, artefact, self.spec, size)
        return replace(
            accuracy,
            figures=scored.figures,
            per_class=scored.per_class,
            per_class_error=scored.per_class_error,
        )

    def _latency(
        self, plan: Plan, model: nn.Module, file: Path, candidate: Candidate, seed: int, turns: Turnstile
    ) -> Latency:
        """Candidate against base, interleaved, while no other trial of this machine is timing or training.

        Equal widths are timed once in a run: it is looked for again when it is this trial's turn, since another trial
        may have had the same widths.
        """
        spec, base = self.spec.latency, self.reference
        known = Timings(base.run / "latency")
        imgsz, widths = candidate.imgsz, widths_digest(plan.widths, plan.removed)
        key = timing_key(spec, widths, imgsz, base.imgsz, candidate.precision)
        if (found := known.find(key)) is not None:
            return found
        side = open_timed(spec, file, model, imgsz)
        unpruned = load_model(base.model) if spec.runtime == "torch" else base.model
        reference = open_timed(spec, base.onnx, unpruned, base.imgsz)
        with alone(spec, turns):
            found = known.find(key)
            if found is None:
                found = compare(side, reference, cap_s=spec.seconds, seed=seed)
                known.add(key, found)
        return found


def accuracy_of(
    weights: Path,
    spec: StudySpec,
    imgsz: int,
    device: str,
    folder: Path,
    shelf: Path | None = None,
    pause: Callable[[], None] | None = None,
) -> Accuracy:
    """Accuracy of a checkpoint as it lies on disk, hence in the precision in which it is delivered.

    `shelf`: where validation batches lie prepared (`objectives.accuracy.batch_cache`); `pause` is called before every
    batch.
    """
    model = load_model(weights)
    if pause is not None:
        model.register_forward_pre_hook(lambda module, images: pause())
    return measure_accuracy(model, spec.data, imgsz=imgsz, device=device, work_dir=folder, shelf=shelf)


def guard_figures(base: Mapping[str, float], accuracy: Accuracy) -> dict[str, Estimate]:
    """per_class_drop, where there are classes; `base` is the accuracy of each class before pruning."""
    found = largest_drop(base, accuracy.per_class, accuracy.per_class_error)
    return {} if found is None else {"per_class_drop": found[1]}


def repair_by(
    spec: StudySpec,
    model: nn.Module,
    device: str,
    imgsz: int,
    seed: int,
    folder: Path,
    phase: Phases,
    origin: Origin | None,
    fitness: Callable[[nn.Module], float] | None = None,
) -> Repaired:
    """The repair that the study's `recover` describes; `folder` is Ultralytics' own.

    The base is the teacher, and what the damage is measured against that sets the learning rate: a model that lost
    nothing is hardly touched.
    """
    recovery = recovery_of(spec.recover, imgsz=imgsz, device=device, seed=seed)
    return repair(
        model, spec.data, recovery, origin=origin, base=Path(spec.model), work_dir=folder,
        on_progress=phase.advance, beat=phase.beat, fitness=fitness,
    )  # fmt: skip


def fitness_of(
    data: str | Path, imgsz: int, device: str, folder: Path, pause: Callable[[], None] = lambda: None
) -> Callable[[nn.Module], float]:
    """What a last fine-tune is judged by after every epoch: the task's main figure on the validation split."""

    def fitness(model: nn.Module) -> float:
        pause()
        found = measure_accuracy(model, data, imgsz=imgsz, device=device, work_dir=folder, resamples=2)
        return found.figures[MAIN_FIGURES[task_of(model)]].value

    return fitness


def recovery_of(asked: RecoverSpec, *, imgsz: int, device: str, seed: int) -> Recovery:
    """What `pruning.recovery.finetune` takes, from what the study says."""
    return Recovery(
        epochs=asked.epochs,
        fraction=asked.fraction,
        distill=asked.distill,
        imgsz=imgsz,
        batch=asked.batch,
        device=device,
        seed=seed,
        slimming=asked.slimming,
        train=asked.train,
    )


def cost_figures(cost: Cost, onnx: Path) -> dict[str, Estimate]:
    """params_m (10^6), macs_g (10^9 of one image), size_mb (10^6 bytes of the file that is timed)."""
    exact = {
        "params_m": cost.params / 1e6,
        "macs_g": cost.macs / 1e9,
        "size_mb": size_bytes(onnx) / 1e6,
    }
    return {name: Estimate.exact(value) for name, value in exact.items()}


def timing_facts(spec: LatencySpec, latency: Latency) -> dict[str, Any]:
    """The measurement behind a latency: ratio to the base, p50 and p90, flags, and what it was measured on."""
    return {**latency_to_json(latency), "batch": spec.batch, **conditions(spec)}


def repair_steps(repaired: Repaired) -> tuple[RepairStep, ...]:
    """The steps as records keep them."""
    return tuple(RepairStep(**asdict(step)) for step in repaired.steps)


def repair_notes(repaired: Repaired) -> tuple[str, ...]:
    """One sentence per step of the repair that was not kept."""
    return tuple(f"repair: {step.step} not kept, {_worse_by(step)}" for step in repaired.steps if not step.kept)


def _worse_by(step: Verdict) -> str:
    if step.change is None:
        return "it left a network whose loss is no number"
    error = "" if step.error is None else f" (standard error {step.error:.2g})"
    return f"judged worse on training images by {step.change:.3g}{error}"


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


def group_rows(graph: ChannelGraph) -> tuple[dict[str, Any], ...]:
    """Rows of the snapshot's group table."""
    return tuple(_row(group) for group in graph.groups)


def _row(group: Any) -> dict[str, Any]:
    return {key: getattr(group, key) for key in ("name", "size", "stage", "frozen", "tie")}


def sizes_of(spec: StudySpec) -> Iterable[int]:
    """Input sizes to trace at: the base's and those that are searched."""
    return dict.fromkeys((spec.imgsz, *spec.sizes))
