"""Precision: the file of a network that is timed, the one that is validated, and the base in another precision.

The file to time is made before recovery and calibrated on two images, since latency depends neither on the weights nor
on the ranges. The file to validate is made from the recovered weights with full calibration. It is kept beside them, so
that the picked file is the measured one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from objectives.accuracy.measure import Accuracy
from objectives.class_drop import largest_drop
from objectives.image_size import Size
from objectives.objective import Estimate
from objectives.runtimes.names import file_suffix
from pruning.checkpoints.checkpoint import save_model
from search.config.precision_support import file_format
from search.config.spec import StudySpec
from search.evaluate.deployment.measured import Opened, measure_costs
from search.evaluate.timing.latency import export_timed, lock_path, open_timed
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.evaluate.timing.progress import Phases
from search.evaluate.workload import accuracy_of, load_model
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


def timed_name(spec: StudySpec, precision: str, stem: str) -> str:
    """Return the name of the file that `file_to_time` makes."""
    if precision == "fp32":
        return f"{stem}{file_suffix(spec.latency.runtime)}"
    return target_of(spec, precision).file_name(stem)


def file_to_time(model: nn.Module, spec: StudySpec, precision: str, imgsz: Size, stem: Path) -> Path:
    """Make the file on which the study's runtime is timed in a precision: `stem` with the suffix of its kind.

    Raises:
        ExportFailed, LatencyError: it cannot be made. BackendMissing: the converter is not installed.
    """
    if precision == "fp32":
        return export_timed(model, spec.latency, stem, imgsz)
    place = stem.with_name(f"{stem.name}-in-{precision}")
    try:
        made = timing_file(model, spec, precision, imgsz, place)
        target = stem.with_name(timed_name(spec, precision, stem.name))
        discard(target)
        os.replace(made, target)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return target


def timing_file(model: nn.Module | Path, spec: StudySpec, precision: str, imgsz: Size, folder: Path) -> Path:
    """Make a file as fast as the validated one, in the temporary `folder`.

    Raises:
        ExportFailed: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = model if isinstance(model, Path) else folder / "timing.pt"
    if not isinstance(model, Path):
        save_model(model, checkpoint)
    batch = 1 if spec.latency.runtime == "ncnn" else spec.latency.batch  # whose file takes any number of images in turn
    return _made(checkpoint, spec, precision, imgsz, folder / "file", batch, TIMING_IMAGES)


def scored_file(weights: Path, spec: StudySpec, precision: str, imgsz: Size, folder: Path) -> Path:
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


def _made(checkpoint: Path, spec: StudySpec, precision: str, imgsz: Size, place: Path, batch: int, *few: int) -> Path:
    shutil.rmtree(place, ignore_errors=True)  # of a process that was killed: links to images cannot be made twice
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
    imgsz: Size,
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


def in_precision(
    accuracy: Accuracy, weights: Path, artefact: Path, spec: StudySpec, imgsz: Size, beat: Callable[[], None]
) -> Accuracy:
    """Return the accuracy of a checkpoint as that of its artefact (`score`).

    Raises:
        AccuracyError: the artefact cannot be validated.
    """
    found = score(accuracy.figures, accuracy.per_class, weights, artefact, spec, imgsz, beat)
    return replace(accuracy, figures=found.figures, per_class=found.per_class, per_class_error=found.per_class_error)


def accuracy_as_shipped(
    accuracy: Accuracy, weights: Path, spec: StudySpec, imgsz: Size, folder: Path, beat: Callable[[], None]
) -> Accuracy:
    """Return the accuracy of a checkpoint in the study's own precision, by a file that is not kept.

    Raises:
        ExportFailed, AccuracyError: the file cannot be made or validated.
    """
    if spec.precision == "fp32":
        return accuracy
    place = folder / "shipped"
    try:
        artefact = _made(weights, spec, spec.precision, imgsz, place, 1)
        return in_precision(accuracy, weights, artefact, spec, imgsz, beat)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def guarded(base: Mapping[str, float], scored: Scored) -> dict[str, Estimate]:
    """Return per_class_drop if there are classes."""
    found = largest_drop(base, scored.per_class, scored.per_class_error)
    return {} if found is None else {"per_class_drop": found[1]}


def measure_base_precision(
    evaluator: PruningEvaluator, base: Measurement, precision: str, work_dir: Path
) -> Measurement:
    """Measure the unpruned model, without training, in another precision than the study's own on its runtime.

    Args:
        base: its measurement in the study's own precision.
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
                folder.mkdir(parents=True)
                network = load_model(model)
                timed = file_to_time(network, spec, precision, imgsz, folder / "timed")
                artefact = timed if precision == "fp32" else _made(model, spec, precision, imgsz, folder / "scored", 1)
            with phase("latency"):
                side = Opened(open_timed(spec.latency, timed, network, imgsz), timed, partial(load_model, model), imgsz)
                names, beside = reference.needed(spec), reference.opened(spec)
                seed = spec.search.seed
                found = measure_costs(spec, side, beside, names, reference.pictures, turns, seed=seed)
            with phase("accuracy"):
                scored = _scored_in(precision, evaluator, base, artefact, folder, phase.beat)
        costs = {name: base.figures[name] for name in ("params_m", "macs_g", "weights_mb") if name in base.figures}
        costs["size_mb"] = Estimate.exact(size_bytes(artefact) / 1e6)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = {**scored.figures, **guarded(reference.per_class, scored), **costs}
    return Measurement(
        figures={**figures, **reference.costs(found)},
        widths=base.widths,
        seconds=phase.seconds,
        per_class=scored.per_class,
        notes=(f"the unpruned model in {precision}, as {file_format(spec.latency.runtime)}",),
    )


def _scored_in(
    precision: str,
    evaluator: PruningEvaluator,
    base: Measurement,
    artefact: Path,
    folder: Path,
    beat: Callable[[], None],
) -> Scored:
    """Return the accuracy of the unpruned model in a precision; the base's own measurement is reused where it can."""
    spec, model = evaluator.spec, Path(evaluator.spec.model)
    if spec.precision == "fp32":
        return score(base.figures, base.per_class, model, artefact, spec, spec.imgsz, beat)
    plain = accuracy_of(model, spec, spec.imgsz, evaluator.device, folder / "accuracy", pause=beat)
    if precision == "fp32":
        return Scored(plain.figures, plain.per_class, plain.per_class_error)
    return score(plain.figures, plain.per_class, model, artefact, spec, spec.imgsz, beat)
