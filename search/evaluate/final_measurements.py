"""Measurements of real models beside trials: baselines, and the front's latencies in one measurement."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from objectives.accuracy.measure import Accuracy
from objectives.image_size import Size, sides
from objectives.latency.protocol import compare_many
from objectives.objective import Estimate
from objectives.runtimes.open import OPENINGS
from pruning.recovery.new_training import train_anew
from search.config.inputs.user_code import UserReference
from search.errors import TrialFailed
from search.evaluate.baselines import Baseline
from search.evaluate.deployment.measured import Opened, end_to_end_sides, measure_costs
from search.evaluate.pruning_evaluator import (
    PruningEvaluator,
    cost_notes,
    guard_figures,
    timing_facts,
)
from search.evaluate.reduced_precision import accuracy_as_shipped, file_to_time, measure_base_precision
from search.evaluate.timing.latency import alone, lock_path, open_timed
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.evaluate.timing.network_costs import Costs, Further
from search.evaluate.timing.progress import Phases
from search.evaluate.timing.threads import limit_threads, share_of_cores
from search.evaluate.workload import accuracy_of, example_input, load_model, weight_figures
from search.run_folder.artefact_files import discard, size_bytes
from search.space import Space
from search.trial import Candidate, FinalLatency, Measurement

HALF_WIDTH = 0.005
"""Relative half-width of the interval at which a front's latency is known well enough: half of a trial's."""
TRAINED_FILE = "trained.pt"
MOST_BYTES = 2_000_000_000
"""Of model files that are open at once; each is open several times."""


@dataclass(frozen=True)
class PruningFinalMeasurements:
    """The `FinalMeasurements` of real models. Plain data, since it is sent to the process that measures.

    Args:
        evaluator, base: of the study's first base; `others`: of its other ones, in their order.
    """

    evaluator: PruningEvaluator
    base: Measurement
    others: tuple[tuple[PruningEvaluator, Measurement], ...] = ()

    def _of(self, base: int) -> tuple[PruningEvaluator, Measurement]:
        return self.others[base - 1] if base else (self.evaluator, self.base)

    def baseline(self, row: Baseline, seed: int, work_dir: Path) -> Measurement:
        limit_threads(share_of_cores(1))
        own, _ = self._of(row.base)
        if row.candidate is not None:
            return own.evaluate(row.candidate, 0, seed, work_dir)
        if row.ratio is not None:
            evaluator, candidate = globally_ranked(own, row.ratio)
            return evaluator.evaluate(candidate, 0, seed, work_dir)
        if row.precision is not None:
            return self._in_precision(row, row.precision, work_dir)
        if UserReference.parse(self.evaluator.spec.data) is not None:
            raise TrialFailed("error", "the inputs of a task of your own are decided by its evaluate()")
        if row.kind == "train":
            return self._trained(row, seed, work_dir)
        return self._unpruned(row, seed, work_dir)

    def _trained(self, row: Baseline, seed: int, work_dir: Path) -> Measurement:
        """Train another network with the time of the search, and measure it as a sibling; it stays as trained.pt."""
        spec, seconds = self.evaluator.spec, row.seconds or 0.0
        assert row.model is not None
        with MeasurementLock(lock_path()) as turns:
            phase = Phases(work_dir, turns.pause)
            with phase("recover"):
                trained = train_anew(
                    str(row.model), spec.data, like=load_model(spec.model), seconds=seconds,
                    imgsz=max(sides(spec.imgsz)), batch=spec.recover.batch, device=self.evaluator.device, seed=seed,
                    target=work_dir / TRAINED_FILE, on_progress=phase.advance, beat=phase.beat,
                )  # fmt: skip
        found = self._unpruned(replace(row, model=trained), seed, work_dir)
        note = f"trained on the study's data for at most {seconds / 60:.3g} minutes, as long as the trials took"
        return replace(found, seconds={**phase.seconds, **found.seconds}, notes=(note, *found.notes))

    def _unpruned(self, row: Baseline, seed: int, work_dir: Path) -> Measurement:
        """Measure the base at a lower input size, or another model, from its file, without training."""
        spec = self._of(row.base)[0].spec
        path, size = row.model or Path(spec.model), row.imgsz or spec.imgsz
        with MeasurementLock(lock_path(), work_dir=work_dir) as turns:
            phase = Phases(work_dir, turns.pause)
            with phase("export"):
                model = load_model(path)
                file = file_to_time(model, spec, spec.precision, size, work_dir / "timing")
            with phase("latency"):
                side = Opened(open_timed(spec.latency, file, model, size), file, partial(load_model, path), size)
                reference, base = self.evaluator.reference, self._reference()
                names, pictures = reference.needed(spec), reference.pictures
                costs = measure_costs(spec, side, base, names, pictures, turns, seed=seed)
            with phase("accuracy"):
                place, device = work_dir / "accuracy", self.evaluator.device
                accuracy = accuracy_of(path, spec, size, device, place, pause=phase.beat)
                accuracy = accuracy_as_shipped(accuracy, path, spec, size, place, phase.beat)
        figures = _costs(model, size, file) | reference.costs(costs)
        figures |= weight_figures(spec, model)
        discard(file)
        shutil.rmtree(place, ignore_errors=True)
        return self._measurement(accuracy, figures, costs, phase)

    def _measurement(
        self, accuracy: Accuracy, figures: Mapping[str, Estimate], costs: Costs, phase: Phases
    ) -> Measurement:
        reference = self.evaluator.reference
        return Measurement(
            figures={**accuracy.figures, **guard_figures(reference.per_class, accuracy), **figures},
            seconds=phase.seconds,
            per_class=accuracy.per_class,
            replicates=accuracy.replicates,
            notes=cost_notes(costs),
            timing=timing_facts(self.evaluator.spec.latency, costs),
        )

    def _in_precision(self, row: Baseline, precision: str, work_dir: Path) -> Measurement:
        if UserReference.parse(self.evaluator.spec.data) is not None:
            raise TrialFailed("error", "a model of your own is not quantised")
        return measure_base_precision(*self._of(row.base), precision, work_dir)

    def together(self, candidates: Mapping[int, Candidate], seed: int, work_dir: Path) -> dict[int, FinalLatency]:
        """See `FinalMeasurements.together`; each candidate in its own precision."""
        limit_threads(share_of_cores(1))
        found: dict[int, FinalLatency] = {}
        with MeasurementLock(lock_path(), work_dir=work_dir) as turns:
            phase, beat = Phases(work_dir, turns.pause), Phases(work_dir).beat  # who times must not wait for itself
            with phase("export"):
                files = {n: self._exported(n, one, work_dir, phase.beat) for n, one in candidates.items()}
            with phase("latency"):
                for done, group in enumerate(_groups(files)):
                    sides = [self._side(candidates[number], files[number], phase.beat) for number in group]
                    measured = self._compared(sides, turns, seed + done, beat)
                    for number, costs in zip(group, measured, strict=True):
                        found[number] = self._final(costs)
        for file in files.values():
            discard(file)
        return found

    def _final(self, costs: Costs) -> FinalLatency:
        figures = self.evaluator.reference.costs(costs)
        facts = timing_facts(self.evaluator.spec.latency, costs)
        return FinalLatency(figures.pop("latency_ms"), facts, figures)

    def _exported(self, number: int, candidate: Candidate, folder: Path, beat: Callable[[], None]) -> Path:
        """Export the pruned base: latency does not depend on the values of the weights."""
        beat()
        model, spec = self._pruned(candidate), self.evaluator.spec
        return file_to_time(model, spec, candidate.precision, candidate.imgsz, folder / f"{number}")

    def _pruned(self, candidate: Candidate) -> Any:
        own, _ = self._of(candidate.base)
        return own.plan(candidate).apply(load_model(own.spec.model))

    def _side(self, candidate: Candidate, file: Path, beat: Callable[[], None]) -> Opened:
        beat()
        spec, (own, _) = self.evaluator.spec.latency, self._of(candidate.base)
        model = self._pruned(candidate) if spec.runtime == "torch" else None
        runners = open_timed(spec, file, model, candidate.imgsz)
        return Opened(runners, file, partial(own.origin_of, candidate), candidate.imgsz)

    def _compared(
        self, sides: Sequence[Opened], turns: MeasurementLock, seed: int, beat: Callable[[], None]
    ) -> list[Costs]:
        """Return the latencies, and end to end ones if the study has them: what is interleaved with the base."""
        spec, reference = self.evaluator.spec.latency, self._reference()
        settings: dict[str, Any] = {"half_width": HALF_WIDTH, "cap_s": spec.together_s, "seed": seed}
        with alone(spec, turns):
            ours, base = [side.runners for side in sides], reference.runners
            found = [Costs(one) for one in compare_many(ours, base, **settings, watch=lambda share: beat())]
            if self.evaluator.reference.pictures:
                *whole, whole_base = end_to_end_sides(spec, [*sides, reference], self.evaluator.reference.pictures)
                timed = compare_many(whole, whole_base, **settings, watch=lambda share: beat(), whole_turns=True)
                found = [
                    replace(costs, further={"e2e_ms": Further.end_to_end(one)})
                    for costs, one in zip(found, timed, strict=True)
                ]
        return found

    def _reference(self) -> Opened:
        return self.evaluator.reference.opened(self.evaluator.spec)


def globally_ranked(evaluator: PruningEvaluator, ratio: float) -> tuple[PruningEvaluator, Candidate]:
    """Return a candidate with the ratios of one global ranking, and an evaluator with one dimension per group.

    Groups that the study leaves alone keep all channels, as in its trials.
    """
    spec = evaluator.spec
    graph = evaluator.graphs[spec.imgsz]
    space = Space.from_graph(graph, spec.space.model_copy(update={"groups": "each", "depth": False}), (spec.imgsz,))
    widths = graph.plan(ratio, importance=evaluator.scores, ranking="global").widths
    sizes = {group.name: group.size for group in graph.groups}
    ratios = {d.name: float(np.mean([1 - widths[g] / sizes[g] for g in d.groups])) for d in space.dimensions}
    return replace(evaluator, space=space), Candidate(ratios, spec.imgsz, spec.precision)


def _costs(model: Any, imgsz: Size, file: Path) -> dict[str, Estimate]:
    """Return params_m, macs_g if the model can be traced, and size_mb, as for trials."""
    from pruning import trace
    from pruning.errors import PruningError

    figures = {
        "params_m": Estimate.exact(sum(value.numel() for value in model.parameters()) / 1e6),
        "size_mb": Estimate.exact(size_bytes(file) / 1e6),
    }
    with suppress(PruningError):  # a model that cannot be pruned can be a rival
        figures["macs_g"] = Estimate.exact(trace(model, example_input(model, imgsz)).cost().macs / 1e9)
    return figures


def _groups(files: Mapping[int, Path]) -> Iterator[list[int]]:
    """Yield all in one measurement, unless their files would not fit into memory."""
    group: list[int] = []
    filled = 0
    for number, file in files.items():
        size = OPENINGS * size_bytes(file)
        if group and filled + size > MOST_BYTES:
            yield group
            group, filled = [], 0
        group.append(number)
        filled += size
    if group:
        yield group
