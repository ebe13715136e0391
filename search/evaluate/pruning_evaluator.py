"""The evaluator of every real search: prunes, times, fine-tunes and validates a candidate.

Latency is measured before recovery: it does not depend on the values of the weights, and a model that cannot be
exported fails in seconds instead of after the fine-tune. Accuracy is that of the half-precision checkpoint as saved and
reloaded, as a user gets it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from objectives.accuracy.measure import Accuracy
from objectives.class_drop import largest_drop
from objectives.image_size import Size
from objectives.latency.model import LatencyModel
from objectives.latency.protocol import FLAGS
from objectives.objective import MAIN_FIGURES, Estimate
from objectives.paired import Replicates, paired_errors
from pruning import ChannelGraph, Cost, Plan, Scores
from pruning.channels import work_of
from pruning.checkpoints.checkpoint import file_digest
from pruning.recovery.finetune import Recovery
from pruning.recovery.judge import Verdict
from pruning.recovery.repair import Origin, Repaired
from search.config.devices import check_device
from search.config.inputs.user_modules import use
from search.config.sections import LatencySpec, RecoverSpec
from search.config.spec import StudySpec
from search.evaluate.deployment.measured import Opened, costs_of
from search.evaluate.evaluator import PrunedCandidate
from search.evaluate.output_divergence import output_probe
from search.evaluate.reduced_precision import file_to_time, in_precision, scored_file
from search.evaluate.sample_images import FOLDER as SAMPLES
from search.evaluate.sample_images import draw_samples
from search.evaluate.timing.latency import alone, lock_path, open_timed
from search.evaluate.timing.latency_cache import LatencyCache, conditions, latency_to_json, timing_key, widths_digest
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.evaluate.timing.network_costs import Costs
from search.evaluate.timing.progress import Phases
from search.evaluate.timing.threads import limit_threads, share_of_cores
from search.evaluate.workload import accuracy_of, load_model, measure_accuracy, repair, save_model, weight_figures
from search.run_folder.artefact_files import discard, size_bytes
from search.run_folder.record import BATCHES
from search.run_folder.weights import FILE as WEIGHTS
from search.run_folder.weights import discard_weights
from search.space import Space
from search.trial import Candidate, Measurement, RepairStep, ScreeningLimit


@dataclass(frozen=True)
class Reference:
    """References of candidates: the base's file, its milliseconds and its classes, measured once per study.

    `onnx`: that file; of the runtime's own format where the runtime does not read ONNX. Of several bases it is the
    first, whichever base a candidate is made of: figures are compared on one scale.

    Attributes:
        further: the base's costs beside its latency, by figure.
        pictures: files on which end-to-end latency is timed.
    """

    onnx: Path
    model: Path
    imgsz: Size
    latency_ms: float
    per_class: Mapping[str, float] = field(default_factory=dict)
    replicates: Replicates = field(default_factory=dict)
    further: Mapping[str, float] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()

    @property
    def shelf(self) -> Path:
        """Folder of the study's cached validation batches."""
        return self.onnx.parent / BATCHES

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.onnx.parent.parent

    def opened(self, spec: StudySpec) -> Opened:
        """Open the base on the study's runtime, as the reference of a comparison."""
        unpruned = self.network() if spec.latency.runtime == "torch" else self.model
        return Opened(open_timed(spec.latency, self.onnx, unpruned, self.imgsz), self.onnx, self.network, self.imgsz)

    def network(self) -> nn.Module:
        """Return the unpruned network."""
        return load_model(self.model)

    def needed(self, spec: StudySpec) -> tuple[str, ...]:
        """Return the further costs without which a candidate is not measured; a program may print others besides."""
        return tuple(name for name in self.further if name in spec.named_figures)

    def costs(self, costs: Costs) -> dict[str, Estimate]:
        """Return the latency and the further costs of a network in their own units."""
        return costs.figures(self.latency_ms, self.further)


@dataclass(frozen=True)
class PruningEvaluator:
    """Measures candidates of one study. Plain data, since it is sent to the trial's process.

    Args:
        graphs: input size -> the model traced at that size; the groups are the same, the MACs are not.
        scores: importance of every channel, computed once, so that all trials rank channels alike.
        device: where to train and validate, as Ultralytics names it.
        latency: predicts the latency of a screened candidate as a ratio to its own base's; None if latency is no
            objective.
        place: of its base among those of the study.
        base_ms: latency of its base; None: that of the reference.
    """

    spec: StudySpec
    space: Space
    graphs: Mapping[Size, ChannelGraph]
    scores: Scores
    reference: Reference
    device: str
    latency: LatencyModel | None = None
    place: int = 0
    base_ms: float | None = None

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        plan = self.plan(candidate)
        key = f"{plan.digest}:{candidate.imgsz}:{candidate.precision}"
        further = candidate.promotion
        return PrunedCandidate(key if further is None else f"{key}:{further.trial}+{further.epochs:g}", plan.widths)

    def plan(self, candidate: Candidate) -> Plan:
        """Return the channels that the candidate keeps."""
        ratios = self.space.group_ratios(candidate)
        graph = self.graphs[candidate.imgsz]
        round_to, removed = self.spec.space.round_to, candidate.removed
        return graph.plan(ratios, importance=self.scores, round_to=round_to, removed=removed)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        """Measure the candidate as `Evaluator.evaluate`; leaves weights.pt unless the study keeps none."""
        limit_threads(share_of_cores(self.spec.search.workers))
        use([self.spec.modules] if self.spec.modules else [])  # on another machine nobody has read the study
        who = f"trial {number} of {self.reference.run}"
        with MeasurementLock(lock_path(), who=who, work_dir=work_dir) as turns:
            phase = Phases(work_dir, turns.pause)
            score = self._score(candidate, phase)
            if screening is not None and score is not None and not screening.admits(score):
                return self._screened(candidate, score, phase)
            measured = replace(self._measured(candidate, number, seed, work_dir, phase, turns), score=score)
        for folder in ("recover", "accuracy"):  # Ultralytics' own files
            shutil.rmtree(work_dir / folder, ignore_errors=True)
        return measured

    def _score(self, candidate: Candidate, phase: Phases) -> float | None:
        """Return the divergence of the outputs after correcting statistics; None if the study does not use it."""
        if self.spec.search.sampler != "auto" or candidate.promotion is not None:
            return None
        with phase("score"):
            graph = self.graphs[self.spec.imgsz]
            probe = output_probe(self.spec, load_model(self.spec.model), graph, self.scores)
            return probe.divergence_of(self.plan(candidate))

    def _screened(self, candidate: Candidate, score: float, phase: Phases) -> Measurement:
        """Return the figures known without export and fine-tune; the latency is predicted, with its interval."""
        plan = self.plan(candidate)
        cost = plan.cost()
        figures = {"params_m": Estimate.exact(cost.params / 1e6), "macs_g": Estimate.exact(cost.macs / 1e9)}
        if self.spec.names_ours("weights_mb"):
            figures |= weight_figures(self.spec, plan.apply(load_model(self.spec.model)))
        if self.latency is not None:
            widths, graph = np.array([list(plan.widths.values())]), self.graphs[candidate.imgsz]
            ratio = self.latency.estimate(work_of(graph, widths, plan.removed, self.latency.tile)[0])
            figures["latency_ms"] = ratio.scaled(self.base_ms or self.reference.latency_ms)
            figures |= self._predicted_end_to_end(figures["latency_ms"])
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

    def _predicted_end_to_end(self, latency: Estimate) -> dict[str, Estimate]:
        """Return a predicted latency and what the base takes before and after its network, if that is measured."""
        if "e2e_ms" not in self.reference.further:
            return {}
        around = max(0.0, self.reference.further["e2e_ms"] - self.reference.latency_ms)
        return {"e2e_ms": Estimate(latency.value + around, latency.low + around, latency.high + around)}

    def _measured(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, phase: Phases, turns: MeasurementLock
    ) -> Measurement:
        size = candidate.imgsz
        with phase("plan"):
            plan, base = self.plan(candidate), load_model(self.spec.model)
            model = plan.apply(base)
        with phase("export"):
            timed = file_to_time(model, self.spec, candidate.precision, size, work_dir / "timing")
        with phase("latency"):
            costs = self._costs(plan, model, timed, candidate, seed, turns)
        figures = cost_figures(plan.cost(), timed) | self.reference.costs(costs)
        figures |= weight_figures(self.spec, model)
        discard(timed)
        with phase("recover"):
            origin, place = Origin(plan, base), work_dir / "recover"
            start, had, recover = self._start(candidate, model)
            spec = self.spec.model_copy(update={"recover": recover})
            sliced = model if had else None
            repaired = repair_by(spec, start, self.device, size, seed, place, phase, origin, sliced=sliced)
            repaired = replace(repaired, epochs=had + repaired.epochs)
        with phase("save"):
            save_model(repaired.model, work_dir / WEIGHTS, paretoprune_trial=number, paretoprune_plan=plan.to_json())
            weights = file_digest(work_dir / WEIGHTS)
        with phase("accuracy"):
            shelf = self.reference.shelf
            place = work_dir / "accuracy"
            accuracy = accuracy_of(work_dir / WEIGHTS, self.spec, size, self.device, place, shelf, phase.beat)
            if candidate.precision != "fp32":
                accuracy = self._in_precision(accuracy, candidate, work_dir, phase.beat)
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
            replicates=accuracy.replicates if candidate.precision == "fp32" else {},  # they are the checkpoint's
            notes=(*cost_notes(costs), *self._notes(candidate, repaired, had)),
            epochs=repaired.epochs,
            timing=timing_facts(self.spec.latency, costs),
            weights=weights,
            repair=repair_steps(repaired),
        )

    def _start(self, candidate: Candidate, model: nn.Module) -> tuple[nn.Module, float, RecoverSpec]:
        """Return the network that is fine-tuned, the epochs that it has had, and how it is fine-tuned.

        A promotion goes on with the weights of the trial that it names. Where they are not at hand (on another machine,
        or deleted), it has all its epochs from the base instead.
        """
        further, recover = candidate.promotion, self.spec.recover
        if further is None:
            return model, 0.0, recover
        weights = None if further.trial is None else self.reference.run / "trials" / f"{further.trial:04d}" / WEIGHTS
        if weights is None or not weights.is_file():
            return model, 0.0, recover.model_copy(update={"epochs": further.total, "spend": "equal"})
        return load_model(weights), further.had, recover.model_copy(update={"epochs": further.epochs, "spend": "equal"})

    def _notes(self, candidate: Candidate, repaired: Repaired, had: float) -> tuple[str, ...]:
        further = candidate.promotion
        if further is None:
            return repair_notes(repaired, self.spec.recover.epochs)
        begun = f"goes on where trial {further.trial} ended" if had else "from the base"
        return f"promoted: {further.total:g} epochs in all, {begun}", *repair_notes(repaired, repaired.epochs)

    def _in_precision(
        self, accuracy: Accuracy, candidate: Candidate, work_dir: Path, beat: Callable[[], None]
    ) -> Accuracy:
        """Return the accuracy of the quantised file, which is kept beside the weights."""
        weights, size = work_dir / WEIGHTS, candidate.imgsz
        artefact = scored_file(weights, self.spec, candidate.precision, size, work_dir)
        return in_precision(accuracy, weights, artefact, self.spec, size, beat)

    def _costs(
        self, plan: Plan, model: nn.Module, file: Path, candidate: Candidate, seed: int, turns: MeasurementLock
    ) -> Costs:
        """Time candidate and base, interleaved, while no other trial of this machine times or trains.

        Equal widths are timed once per run: the cache is checked again under the lock, since another trial may have
        timed the same widths while this one waited.
        """
        spec, base = self.spec.latency, self.reference
        known = LatencyCache(base.run / "latency")
        imgsz, widths = candidate.imgsz, widths_digest(plan.widths, plan.removed)
        key = timing_key(spec, widths, imgsz, base.imgsz, candidate.precision, self.place, self.spec.precision)
        needed = base.needed(self.spec)
        if (found := known.costs(key, needed)) is not None:
            return found
        side = Opened(open_timed(spec, file, model, imgsz), file, partial(self.origin_of, candidate), imgsz)
        reference = base.opened(self.spec)
        with alone(spec, turns):
            found = known.costs(key, needed)
            if found is None:
                found = costs_of(self.spec, side, reference, needed, base.pictures, seed=seed)
                known.add(key, found.latency, found.further)
        return found

    def origin_of(self, candidate: Candidate) -> nn.Module:
        """Return the unpruned network whose boxes are those of a candidate: with the detection levels that it has."""
        graph, model = self.graphs[candidate.imgsz], load_model(self.spec.model)
        levels = {level.path for level in graph.levels}
        removed = [path for path in candidate.removed if path in levels]
        return graph.plan({}, importance=self.scores, removed=removed).apply(model) if removed else model


def guard_figures(base: Mapping[str, float], accuracy: Accuracy) -> dict[str, Estimate]:
    """Return per_class_drop if there are classes; `base` is the accuracy of each class before pruning."""
    found = largest_drop(base, accuracy.per_class, accuracy.per_class_error)
    return {} if found is None else {"per_class_drop": found[1]}


def repair_by(
    spec: StudySpec,
    model: nn.Module,
    device: str,
    imgsz: Size,
    seed: int,
    folder: Path,
    phase: Phases,
    origin: Origin | None,
    fitness: Callable[[nn.Module], float] | None = None,
    on_trained: Callable[[nn.Module], None] = lambda model: None,
    sliced: nn.Module | None = None,
) -> Repaired:
    """Repair `model` as the study's `recover` says. The base is the teacher, and the reference of the damage.

    Args:
        folder: for Ultralytics' own files.
        phase: receives the progress of the fine-tune.
        origin: the base and plan of `model`; None if unknown.
        fitness: scores every epoch in place of the loss on held-out images.
        on_trained: called with the fine-tuned network at once; not for a user's own task, whose result is final.
        sliced: the network as pruned, where `model` goes on with a fine-tune.
    """
    recovery = recovery_of(spec.recover, imgsz=imgsz, device=device, seed=seed)
    return repair(
        model, spec.data, recovery, origin=origin, base=Path(spec.model), sliced=sliced, work_dir=folder,
        on_progress=phase.advance, beat=phase.beat, fitness=fitness, on_trained=on_trained,
    )  # fmt: skip


def fitness_of(
    data: str | Path, imgsz: Size, device: str, folder: Path, pause: Callable[[], None] = lambda: None
) -> Callable[[nn.Module], float]:
    """Return the fitness of a final fine-tune: the task's main figure on the validation split after every epoch."""

    def fitness(model: nn.Module) -> float:
        pause()
        found = measure_accuracy(model, data, imgsz=imgsz, device=device, work_dir=folder, resamples=2)
        return found.figures[MAIN_FIGURES[task_of(model)]].value

    return fitness


def recovery_of(asked: RecoverSpec, *, imgsz: Size, device: str, seed: int) -> Recovery:
    """Convert the study's `recover` to the arguments of `pruning.recovery.finetune`."""
    return Recovery(
        epochs=asked.epochs,
        spend=asked.spend,
        reconstruct=asked.reconstruct,
        fraction=asked.fraction,
        distill=asked.distill,
        imgsz=imgsz,
        batch=asked.batch,
        device=device,
        seed=seed,
        slimming=asked.slimming,
        train=asked.train,
    )


def cost_figures(cost: Cost, file: Path) -> dict[str, Estimate]:
    """Return params_m (10^6), macs_g (10^9 of one image), size_mb (10^6 bytes of the timed file)."""
    exact = {
        "params_m": cost.params / 1e6,
        "macs_g": cost.macs / 1e9,
        "size_mb": size_bytes(file) / 1e6,
    }
    return {name: Estimate.exact(value) for name, value in exact.items()}


def timing_facts(spec: LatencySpec, costs: Costs) -> dict[str, Any]:
    """Return the measurement behind a latency: ratio to the base, p50 and p90, flags and conditions; further costs."""
    return {**latency_to_json(costs.latency), "batch": spec.batch, **conditions(spec), **costs.facts}


def repair_steps(repaired: Repaired) -> tuple[RepairStep, ...]:
    """Convert the steps to records."""
    return tuple(RepairStep(**asdict(step)) for step in repaired.steps)


def repair_notes(repaired: Repaired, asked: float) -> tuple[str, ...]:
    """Return a sentence where the fine-tune had other epochs than `asked`, and one per step that was not kept."""
    spent = [f"repair: {_spent(repaired)}"] if repaired.epochs != asked and repaired.damage is not None else []
    undone = (f"repair: {step.step} not kept, {_worse_by(step)}" for step in repaired.steps if not step.kept)
    return (*spent, *undone)


def _spent(repaired: Repaired) -> str:
    lost = f"without one the loss is {100 * (repaired.damage or 0):.2g} % above the base's"
    return f"fine-tuned for {repaired.epochs:g} epochs, {lost}" if repaired.epochs else f"no fine-tune needed, {lost}"


def _worse_by(step: Verdict) -> str:
    if step.change is None:
        return "it left a network whose loss is no number"
    error = "" if step.error is None else f" (standard error {step.error:.2g})"
    return f"judged worse on training images by {step.change:.3g}{error}"


def cost_notes(costs: Costs) -> tuple[str, ...]:
    """Return one sentence per flag of the measurements of latency and further costs."""
    further = (f"{name}: {FLAGS.get(flag, flag)}" for name, flag in costs.flags)
    return (*(f"latency: {FLAGS.get(flag, flag)}" for flag in costs.latency.flags), *further)


def task_of(model: nn.Module) -> str:
    """Return the task: detect, segment, pose, obb or classify."""
    return str(getattr(model, "task", "detect"))


def resolve_device(device: str) -> str:
    """Resolve `auto` to the first GPU, or the CPU if there is none. Raises DeviceMissing for one that is not there."""
    check_device(device)
    if device != "auto":
        return device
    return "0" if torch.cuda.is_available() else "cpu"


def group_rows(graph: ChannelGraph) -> tuple[dict[str, Any], ...]:
    """Return the rows of the snapshot's group table; `levels` are those with which a group goes, if any."""
    return tuple(map(_row, graph.groups, graph.levels_of_groups))


def _row(group: Any, levels: tuple[str, ...]) -> dict[str, Any]:
    row = {key: getattr(group, key) for key in ("name", "size", "stage", "frozen", "tie")}
    return {**row, "levels": list(levels)} if levels else row


def sizes_of(spec: StudySpec) -> Iterable[Size]:
    """Return the input sizes to trace at: the base's and the searched ones."""
    return dict.fromkeys((spec.imgsz, *spec.sizes))
