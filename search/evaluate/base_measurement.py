"""Measurement of the unpruned model, in the same way as trials."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from search.config.spec import StudySpec
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.evaluate.timing.progress import Phases
from search.evaluate.timing.threads import limit_threads, share_of_cores
from search.run_folder.record import BATCHES
from search.trial import Measurement


def measure_base(
    spec: StudySpec, model: Any, graph: Any, onnx: Path, device: str, base_dir: Path, phase: Phases
) -> Measurement:
    """Measure the unpruned model in the same way as trials, from its checkpoint on disk.

    Its latency is the study's reference, hence exact.

    Args:
        onnx: the base's ONNX file, to be timed.
        base_dir: receives temporary files, and the cached validation batches.
        phase: times the phases of the measurement.
    """
    from objectives.objective import Estimate
    from search.evaluate import pruning_evaluator
    from search.evaluate.timing import latency as timing
    from search.evaluate.timing import latency_cache

    widths = {group.name: group.size for group in graph.groups}
    with MeasurementLock(timing.lock_path(), work_dir=base_dir) as turns:
        with phase("latency"):
            sides = [timing.open_timed(spec.latency, onnx, model, spec.imgsz) for _ in range(2)]
            (latency,) = timing.measure(sides[:1], sides[1], spec.latency, turns, seed=spec.search.seed)
            known = latency_cache.LatencyCache(base_dir.parent / "latency")
            known.add(
                latency_cache.timing_key(spec.latency, latency_cache.widths_digest(widths), spec.imgsz, spec.imgsz),
                latency,
            )
        limit_threads(share_of_cores(1))
        with phase("accuracy"):
            place, shelf = base_dir / "accuracy", base_dir / BATCHES
            accuracy = pruning_evaluator.accuracy_of(
                Path(spec.model), spec, spec.imgsz, device, place, shelf, phase.beat
            )
    shutil.rmtree(base_dir / "accuracy", ignore_errors=True)
    figures = pruning_evaluator.cost_figures(graph.cost(), onnx)
    figures["latency_ms"] = Estimate.exact(latency.reference_ms)
    if accuracy.per_class:
        figures["per_class_drop"] = Estimate.exact(0.0)
    return Measurement(
        figures={**accuracy.figures, **figures},
        widths=widths,
        seconds=phase.seconds,
        per_class=accuracy.per_class,
        paired=dict.fromkeys(accuracy.replicates, 0.0),
        replicates=accuracy.replicates,
        notes=pruning_evaluator.latency_notes(latency),
        timing=pruning_evaluator.timing_facts(spec.latency, latency),
    )
