"""Accuracy of a model on a split by Ultralytics' validator, with the error due to the finite number of images.

The interval comes from resampling validation images (`bootstrap`). It covers the variation of the figure over
other images of the same kind. Two models measured on the *same* images share most of that: their difference
is better known than the two intervals suggest.

Figures by task (as fractions; names in `objective.OBJECTIVES`):

    detect, obb   map50_95, map50, precision, recall, map_small
    segment       those of the boxes, and mask_map50_95, mask_map50, mask_map_small
    pose          those of the boxes, and pose_map50_95, pose_map50
    classify      top1, top5

Accuracy on small objects is there where the split has some.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from objectives.accuracy.batch_cache import BatchCache
from objectives.accuracy.bootstrap import Floats, ImageStats, resample_weights, resampled_figures, resampled_map
from objectives.accuracy.subjects import check_data, exported_subject, subject_of
from objectives.accuracy.validators import VALIDATORS, ValidationStats, arguments, validate
from objectives.errors import AccuracyError
from objectives.image_size import Size, written
from objectives.objective import Estimate
from objectives.ultralytics_door import quiet


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy figures of one model on one split, as fractions."""

    figures: Mapping[str, Estimate]
    """By objective name, with 95 % intervals."""
    per_class: Mapping[str, float]
    """Of each class that has labels in the split, by its own label (`class_labels`): AP50-95 of what the task is about
    (boxes, masks, keypoints), or the share of its images that are classified rightly."""
    images: int
    labels: int
    resamples: int
    per_class_error: Mapping[str, float]
    """Standard error of each figure of `per_class`."""
    replicates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """The figures that models are ranked by, in each resample; see `objectives.paired`."""


def measure_accuracy(
    model: nn.Module | Path | str,
    data: str | Path,
    *,
    imgsz: Size,
    device: str = "cpu",
    batch: int = 32,
    split: str = "val",
    work_dir: Path | None = None,
    resamples: int = 100,
    seed: int = 0,
    shelf: Path | None = None,
    rect: bool = True,
    like: Path | None = None,
    conf: float | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Accuracy:
    """Validate `model` on a split of `data`; equal arguments give equal figures.

    Args:
        model: an Ultralytics module, pruned or not (copied; never fused, changed or rebuilt), or a `.pt` or `.onnx`
            file.
        data: a data YAML, or a folder to classify.
        imgsz: in pixels. Images are letterboxed to exactly (height, width) of a rectangle, whatever `rect` says.
        work_dir: parent of temporary files, which are removed.
        seed: draws the resamples.
        shelf: a folder that keeps prepared batches for later calls, also of other processes (see `batch_cache`).
        rect: False for square images, as exported files of fixed shape get them.
        like: the checkpoint that `model`, a file or folder of any format, was exported from.
        conf: objects with a lower score are none; None: Ultralytics' own threshold of a validation, 0.001 (obb: 0.01).
        beat: called before every batch.

    Raises `AccuracyError`: not an Ultralytics model, an unknown task, data that are missing or unreadable, an empty or
    unlabelled split, classes that do not match.
    """
    subject, facts = subject_of(model) if like is None else exported_subject(Path(str(model)), like)
    if facts.task not in VALIDATORS:
        known = ", ".join(VALIDATORS)
        raise AccuracyError(f"The accuracy of task {facts.task!r} cannot be measured yet. Tasks that can: {known}.")
    if facts.task == "classify" and not isinstance(imgsz, int):
        raise AccuracyError(f"A classifier's images are cropped to squares: imgsz={max(imgsz)}, not {written(imgsz)}.")
    check_data(data, split, facts)
    single = facts.single_cls
    asked = arguments(
        facts.task, data, imgsz=imgsz, device=device, batch=batch, split=split, single_cls=single, rect=rect, conf=conf
    )
    kept = None if shelf is None else BatchCache(shelf)
    with quiet(), tempfile.TemporaryDirectory(dir=_made(work_dir), prefix="accuracy-") as folder:
        validator, seen = validate(facts.task, subject, asked, Path(folder), kept, facts.family, beat)
    if facts.task == "classify":
        return _of_classes(validator, seen, resamples, seed)
    _check_counts(validator, data, split)
    return _of_objects(facts.task, validator, seen, resamples, seed)


def class_labels(names: Mapping[int, str]) -> dict[int, str]:
    """Return a label of its own for every class number: its name, with its number where others have the same name."""
    counts = Counter(map(str, names.values()))
    labels: dict[int, str] = {}
    taken = {name for name, count in counts.items() if count == 1}
    for number, name in names.items():
        label = str(name)
        if counts[label] > 1:
            label = f"{label} (class {number})"
            while label in taken:
                label += "'"
            taken.add(label)
        labels[int(number)] = label
    return labels


def _made(folder: Path | None) -> Path | None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _check_counts(validator: Any, data: str | Path, split: str) -> None:
    if not validator.seen:
        raise AccuracyError(f"Split {split!r} of {data} has no images. Check the path in the data YAML.")
    if not int(validator.metrics.nt_per_class.sum()):
        raise AccuracyError(
            f"None of the {validator.seen} images in split {split!r} of {data} has a label, so there is no "
            f"accuracy to "
            f"measure. Expected label files in the folder 'labels' beside 'images'."
        )


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of true positives: by box, mask or keypoints."""

    prefix: str
    metric: str
    """Ultralytics' attribute."""
    tp: str
    """Name of the true positives among the per-image arrays."""
    figures: tuple[tuple[str, str], ...] = (("map50_95", "map"), ("map50", "map50"))
    """(name of the objective, Ultralytics' attribute of the metric)."""
    small: bool = True


_BOX = _Kind("", "box", "tp", (("map50_95", "map"), ("map50", "map50"), ("precision", "mp"), ("recall", "mr")))
_KINDS: Mapping[str, tuple[_Kind, ...]] = {
    "detect": (_BOX,),
    "obb": (_BOX,),
    "segment": (_BOX, _Kind("mask_", "seg", "tp_m")),
    "pose": (_BOX, _Kind("pose_", "pose", "tp_p", small=False)),  # COCO has no keypoints of small people
}


def _of_objects(task: str, validator: Any, seen: ValidationStats, resamples: int, seed: int) -> Accuracy:
    """Compute the figures of boxes, masks or keypoints; the last kind of a task is its main one."""
    first = _image_stats(seen, "tp")
    weights = resample_weights(first.images, first.cells, resamples=resamples, seed=seed)
    figures: dict[str, Estimate] = {}
    replicates: dict[str, tuple[float, ...]] = {}
    for kind in _KINDS[task]:
        metric = getattr(validator.metrics, kind.metric)
        drawn = resampled_figures(_image_stats(seen, kind.tp), weights)
        replicates[f"{kind.prefix}map50_95"] = _kept(drawn.map50_95)
        for name, attribute in kind.figures:
            figures[kind.prefix + name] = _estimate(getattr(metric, attribute), getattr(drawn, name))
        if kind.small and (small := _small_stats(seen, kind.tp)) is not None:
            value = resampled_map(small, np.ones((1, small.images)))[0]
            figures[f"{kind.prefix}map_small"] = _estimate(value, resampled_map(small, weights))
    labels = class_labels(validator.names)
    names = [labels[int(number)] for number in metric.ap_class_index]
    return Accuracy(
        figures=figures,
        per_class=dict(zip(names, map(float, metric.ap), strict=True)),
        images=int(validator.seen),
        labels=len(first.target_cls),
        resamples=len(weights),
        per_class_error=dict(zip(names, _errors(drawn.per_class), strict=True)),
        replicates=replicates,
    )


def _image_stats(seen: ValidationStats, tp: str) -> ImageStats:
    stats = seen.stats
    return ImageStats.collect(stats[tp], stats["conf"], stats["pred_cls"], stats["target_cls"])


def _small_stats(seen: ValidationStats, tp: str) -> ImageStats | None:
    """Return the statistics of small labels only; None if there are none."""
    small, stats = seen.small[tp], seen.stats
    targets = [classes[matches.small] for classes, matches in zip(stats["target_cls"], small, strict=True)]
    if not any(len(classes) for classes in targets):
        return None
    found, ignored = [matches.tp for matches in small], [matches.ignored for matches in small]
    return ImageStats.collect(found, stats["conf"], stats["pred_cls"], targets, ignored)


def _of_classes(validator: Any, seen: ValidationStats, resamples: int, seed: int) -> Accuracy:
    """Compute top-1 and top-5 accuracy."""
    hits = seen.predictions == seen.targets[:, None]
    right = np.column_stack([hits[:, 0], hits.any(axis=1)]).astype(np.float64)
    weights = resample_weights(len(right), len(right), resamples=resamples, seed=seed)
    drawn = weights @ right / len(right)
    values = (validator.metrics.top1, validator.metrics.top5)
    figures = {name: _estimate(values[i], drawn[:, i]) for i, name in enumerate(("top1", "top5"))}
    classes = np.unique(seen.targets)
    shares = _class_shares(right[:, 0], seen.targets, classes, np.ones((1, len(right))))[0]
    errors = _errors(_class_shares(right[:, 0], seen.targets, classes, weights))
    labels = class_labels(validator.names)
    names = [labels[int(number)] for number in classes]
    per_class, per_error = (dict(zip(names, map(float, found), strict=True)) for found in (shares, errors))
    replicates = {"top1": _kept(drawn[:, 0])}
    return Accuracy(figures, per_class, len(right), len(right), len(weights), per_error, replicates)


def _class_shares(right: Floats, targets: Any, classes: Any, weights: Floats) -> Floats:
    """Return the share of right images per class and resample: (R, K); NaN for a class without images."""
    own = (targets[:, None] == classes).astype(np.float64)
    total = weights @ own
    shares: Floats = np.divide(
        weights @ (own * right[:, None]), total, out=np.full_like(total, np.nan), where=total > 0
    )
    return shares


def _errors(drawn: Floats) -> Iterator[float]:
    """Yield each class's standard deviation over resamples (R, K); 0 if fewer than two resamples have the class."""
    for column in drawn.T:
        known = column[~np.isnan(column)]
        yield float(known.std(ddof=1)) if len(known) > 1 else 0.0


def _kept(drawn: Floats) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in drawn)


def _estimate(value: float, resampled: Any) -> Estimate:
    """Return the validator's figure with the normal interval of the bootstrap's standard error.

    Not the percentile interval: drawing images twice makes mAP's ranking easier, so resampled figures are biased (Efron
    and Tibshirani 1993, section 10.2); only their spread is used.
    """
    return Estimate.normal(float(value), float(np.std(resampled, ddof=1)), within=(0.0, 1.0))
