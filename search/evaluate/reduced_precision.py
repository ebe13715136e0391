"""Reduced precision: a candidate's file for timing, its file for validation, and the base in INT8.

The file to time is made before recovery and calibrated on two images, since latency depends neither on the weights nor
on the ranges. The file to validate is made from the recovered weights with full calibration. It is kept beside them, so
that the picked file is the measured one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from objectives.class_drop import largest_drop
from objectives.objective import Estimate
from pruning.checkpoints.checkpoint import save_model
from search.config.precision_support import file_format
from search.config.spec import StudySpec
from search.evaluate.timing.latency import lock_path, measure, open_timed
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.evaluate.timing.progress import Phases
from search.export.accuracy_shift import shifted
from search.export.artefact_accuracy import validate, values
from search.export.formats import BITS, FORMATS, Target
from search.export.ultralytics_export import make_artefact
from search.run_folder.artefact_files import discard, size_bytes
from search.trial import Measurement

if TYPE_CHECKING:
    from torch import nn

    from search.evaluate.pruning_evaluator import PruningEvaluator

TIMING_IMAGES = 2


@dataclass(frozen=True)
class Scored:
    """Accuracy figures in a precision, AP by class, and its standard error."""

    figures: Mapping[str, Estimate]
    per_class: Mapping[str, float]
    per_class_error: Mapping[str, float]


def target_of(spec: StudySpec, precision: str) -> Target:
    """Return the file type that the study's runtime uses in this precision."""
    return Target(FORMATS[file_format(spec.latency.runtime)], BITS[precision])


def timing_file(model: nn.Module | Path, spec: StudySpec, precision: str, imgsz: int, folder: Path) -> Path:
    """Make a file as fast as the validated one, in the temporary `folder`.

    Raises:
        ExportFailed: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = model if isinstance(model, Path) else folder / "timing.pt"
    if not isinstance(model, Path):
        save_model(model, checkpoint)
    return _made(checkpoint, spec, precision, imgsz, folder / "file", spec.latency.batch, TIMING_IMAGES)


def scored_file(weights: Path, spec: StudySpec, precision: str, imgsz: int, folder: Path) -> Path:
    """Make the quantised file of a checkpoint, beside it: `weights_int8.onnx` of `weights.pt`.

    Raises:
        ExportFailed: it cannot be made.
    """
    place = folder / "quantising"
    try:
        made = _made(weights, spec, precision, imgsz, place, 1)
        target = weights.with_name(made.name)
        discard(target)
        os.replace(made, target)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return target


def _made(checkpoint: Path, spec: StudySpec, precision: str, imgsz: int, place: Path, batch: int, *few: int) -> Path:
    target = target_of(spec, precision)
    device = "0" if target.form.gpu else "cpu"
    images = {"images": few[0]} if few else {}
    return make_artefact(
        checkpoint, target, place, data=Path(spec.data), imgsz=imgsz, device=device, batch=batch, **images
    )


def score(
    figures: Mapping[str, Estimate],
    per_class: Mapping[str, float],
    weights: Path,
    artefact: Path,
    spec: StudySpec,
    imgsz: int,
    beat: Callable[[], None],
) -> Scored:
    """Return the accuracy of an artefact, comparable with those of checkpoints.

    A file takes square images, a checkpoint padded rectangles, which changes mAP by more than INT8 does. So both are
    validated square, and the file's loss there is subtracted from the checkpoint's own figures.

    Args:
        figures: of the checkpoint, as every trial has them; other figures than accuracies are left out.
        beat: called before every image.

    Raises:
        AccuracyError: the artefact cannot be validated.
    """
    data, device = Path(spec.data), "0" if artefact.suffix == ".engine" else "cpu"
    before, after = (
        validate(path, weights, data, imgsz=imgsz, device=device, beat=beat) for path in (weights, artefact)
    )
    lost = {name: before.per_class.get(name, 0.0) - after.per_class.get(name, 0.0) for name in per_class}
    return Scored(
        shifted(figures, values(before), values(after)),
        {name: min(1.0, max(0.0, value - lost[name])) for name, value in per_class.items()},
        after.per_class_error,
    )


def guarded(base: Mapping[str, float], scored: Scored) -> dict[str, Estimate]:
    """Return per_class_drop if there are classes."""
    found = largest_drop(base, scored.per_class, scored.per_class_error)
    return {} if found is None else {"per_class_drop": found[1]}


def measure_base_precision(
    evaluator: PruningEvaluator, base: Measurement, precision: str, work_dir: Path
) -> Measurement:
    """Measure the int8 baseline: the unpruned model, without training, in another precision on the study's runtime.

    Args:
        base: its float32 measurement.
        work_dir: for temporary files, which are removed.

    Raises:
        ExportFailed, AccuracyError, LatencyError: it cannot be made or measured.
    """
    spec, reference, model = evaluator.spec, evaluator.reference, Path(evaluator.spec.model)
    imgsz, folder = spec.imgsz, work_dir / f"base-{precision}"
    try:
        with MeasurementLock(lock_path(), work_dir=work_dir) as turns:
            phase = Phases(work_dir, turns.pause)
            with phase("export"):
                timed = timing_file(model, spec, precision, imgsz, folder / "timing")
                artefact = _made(model, spec, precision, imgsz, folder / "scored", 1)
            with phase("latency"):
                sides = [open_timed(spec.latency, onnx, onnx, imgsz) for onnx in (timed, reference.onnx)]
                (latency,) = measure(sides[:1], sides[1], spec.latency, turns, seed=spec.search.seed)
            with phase("accuracy"):
                scored = score(base.figures, base.per_class, model, artefact, spec, imgsz, phase.beat)
        costs = {name: base.figures[name] for name in ("params_m", "macs_g")}
        costs["size_mb"] = Estimate.exact(size_bytes(artefact) / 1e6)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {**scored.figures, **guarded(reference.per_class, scored), **costs}
    return Measurement(
        figures={**figures, "latency_ms": latency.in_ms(reference.latency_ms)},
        widths=base.widths,
        seconds=phase.seconds,
        per_class=scored.per_class,
        notes=(f"the unpruned model in {precision}, as {file_format(spec.latency.runtime)}",),
    )
