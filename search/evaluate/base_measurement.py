"""Measurement of the unpruned model, in the same way as trials."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.config.spec import StudySpec
from search.errors import NotComparable
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.evaluate.timing.progress import Phases
from search.evaluate.timing.threads import limit_threads, share_of_cores
from search.run_folder.record import BATCHES
from search.trial import Measurement

if TYPE_CHECKING:
    from search.evaluate.pruning_evaluator import Reference

PRECISION = "precision"
"""Key of a base's `timing`: what it was measured in."""


@dataclass(frozen=True)
class FurtherBase:
    """A base beside the study's first one, which is its reference.

    Attributes:
        place: among the bases of the study, from 1.
    """

    place: int
    reference: Reference


def measure_base(
    spec: StudySpec,
    model: Any,
    graph: Any,
    onnx: Path,
    device: str,
    base_dir: Path,
    phase: Phases,
    further: FurtherBase | None = None,
) -> Measurement:
    """Measure the unpruned model in the same way as trials, from its checkpoint on disk.

    Its latency is the study's reference, hence exact; a further base is compared with the reference as trials are.

    Args:
        onnx: the base's file in the study's own precision, to be timed.
        base_dir: receives temporary files, and the cached validation batches.
        phase: times the phases of the measurement.
    """
    from objectives.objective import Estimate
    from objectives.paired import paired_errors
    from search.evaluate import pruning_evaluator
    from search.evaluate.deployment.measured import Opened, measure_costs
    from search.evaluate.deployment.pictures import deployment_pictures
    from search.evaluate.reduced_precision import accuracy_as_shipped
    from search.evaluate.timing import latency as timing
    from search.evaluate.timing import latency_cache
    from search.evaluate.workload import accuracy_of, weight_figures

    widths = {group.name: group.size for group in graph.groups}
    reference, number = (None, 0) if further is None else (further.reference, further.place)
    run, shelf = (base_dir.parent, base_dir / BATCHES) if reference is None else (reference.run, reference.shelf)
    with MeasurementLock(timing.lock_path(), work_dir=base_dir) as turns:
        with phase("latency"):
            names = spec.deployed if reference is None else reference.needed(spec)
            pictures = () if reference is None else reference.pictures
            if reference is None:
                pictures = deployment_pictures(spec, model, base_dir, names, phase.beat)

            def unpruned() -> Any:
                return model

            side, again = (
                Opened(timing.open_timed(spec.latency, onnx, model, spec.imgsz), onnx, unpruned, spec.imgsz)
                for _ in range(2)
            )
            beside = again if reference is None else reference.opened(spec)
            costs = measure_costs(spec, side, beside, names, pictures, turns, seed=spec.search.seed)
            digest, imgsz = latency_cache.widths_digest(widths), spec.imgsz if reference is None else reference.imgsz
            own = spec.precision
            key = latency_cache.timing_key(spec.latency, digest, spec.imgsz, imgsz, own, number, own)
            latency_cache.LatencyCache(run / "latency").add(key, costs.latency, costs.further)
        limit_threads(share_of_cores(1))
        with phase("accuracy"):
            place = base_dir / "accuracy"
            accuracy = accuracy_of(Path(spec.model), spec, spec.imgsz, device, place, shelf, phase.beat)
            accuracy = accuracy_as_shipped(accuracy, Path(spec.model), spec, spec.imgsz, place, phase.beat)
    shutil.rmtree(base_dir / "accuracy", ignore_errors=True)
    figures = pruning_evaluator.cost_figures(graph.cost(), onnx) | weight_figures(spec, model)
    if reference is not None:
        figures |= reference.costs(costs)
        figures |= pruning_evaluator.guard_figures(reference.per_class, accuracy)
    else:
        figures |= costs.of_base()
        figures |= {"per_class_drop": Estimate.exact(0.0)} if accuracy.per_class else {}
    before = accuracy.replicates if reference is None else reference.replicates
    return Measurement(
        figures={**accuracy.figures, **figures},
        widths=widths,
        seconds=phase.seconds,
        per_class=accuracy.per_class,
        paired=paired_errors(accuracy.replicates, before) if further else dict.fromkeys(accuracy.replicates, 0.0),
        replicates=accuracy.replicates,
        notes=pruning_evaluator.cost_notes(costs),
        timing={**pruning_evaluator.timing_facts(spec.latency, costs), PRECISION: spec.precision},
    )


def check_same_precision(base: Measurement, spec: StudySpec, where: Path) -> None:
    """Check that a base of the run on disk was measured in the study's own precision, as the trials to come will be.

    Bases used to be measured in float32 whatever the study's precision, and did not say so.

    Raises:
        NotComparable: it was measured in another one.
    """
    found = base.timing.get(PRECISION, "fp32")
    if found != spec.precision:
        raise NotComparable(
            f"the base was measured in {found}, the study's own precision is {spec.precision}",
            where=str(where),
            expected="a run whose base was measured by this version",
            next_command="start a new run with name=NEW_NAME",
        )
