"""Average precision under resampled images: the error of mAP that comes from having few validation images.

n images, R resamples, D detections and G labels in all, T = 10 IoU thresholds 0.5:0.95, K classes.

The bootstrap (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 6 and 13; 50 to 200
resamples suffice for a standard error, section 6.4) draws n images with replacement, R times. Here a resample
is a vector of image weights (how often each was drawn), sorting is done once, and all resamples go through
numpy together, several times faster than calling Ultralytics' `ap_per_class` on each. `resampled_figures`
with weights of one equals `ap_per_class`, and with whole-numbered weights equals `ap_per_class` on the
repeated images; the tests hold both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RECALLS = np.linspace(0, 1, 101)
"""COCO's 101 recall levels, as Ultralytics uses them."""
CONFIDENCES = np.linspace(0, 1, 1000)
"""Ultralytics' grid of confidence thresholds for precision and recall."""
MOST_CELLS = 4e7
"""Cells (`ImageStats.cells`) times resamples beyond which fewer resamples are drawn: about a second or
two."""


@dataclass(frozen=True, slots=True)
class ImageStats:
    """Detections and labels of all images, flat. Arrays over detections: `tp` (D, T) bool, `conf` (D,), `pred_cls`
    (D,), `pred_image` (D,); over labels: `target_cls` (G,), `target_image` (G,).
    """

    tp: npt.NDArray[np.bool_]
    conf: Floats
    pred_cls: Ints
    pred_image: Ints
    target_cls: Ints
    target_image: Ints
    images: int
    ignored: npt.NDArray[np.bool_] | None = None
    """(D, T): detections that count neither for nor against the model at an IoU threshold."""

    @property
    def cells(self) -> int:
        """Size of one resample's computation: detections, and a curve for each class."""
        return len(self.conf) + len(CONFIDENCES) * len(np.unique(self.target_cls))

    @classmethod
    def collect(
        cls,
        tp: Sequence[npt.NDArray[np.bool_]],
        conf: Sequence[Floats],
        pred_cls: Sequence[Floats],
        target_cls: Sequence[Floats],
        ignored: Sequence[npt.NDArray[np.bool_]] | None = None,
    ) -> ImageStats:
        """Build from per-image arrays, in the order of the images."""
        return cls(
            tp=np.concatenate(tp).astype(bool),
            conf=np.concatenate(conf).astype(np.float64),
            pred_cls=np.concatenate(pred_cls).astype(np.int64),
            pred_image=np.repeat(np.arange(len(conf)), [len(c) for c in conf]),
            target_cls=np.concatenate(target_cls).astype(np.int64),
            target_image=np.repeat(np.arange(len(target_cls)), [len(c) for c in target_cls]),
            images=len(conf),
            ignored=None if ignored is None else np.concatenate(ignored).astype(bool),
        )


@dataclass(frozen=True, slots=True)
class ResampledFigures:
    """One figure per resample, each of shape (R,), as fractions.

    `classes` (K,) are those that have labels, `per_class` (R, K) their AP50-95, NaN where a resample has no label.
    """

    map50_95: Floats
    map50: Floats
    precision: Floats
    recall: Floats
    classes: Ints
    per_class: Floats


def resample_weights(images: int, cells: int, *, resamples: int, seed: int) -> Floats:
    """Draw how often each image is used, shape (R, n); every row sums to n.

    R is `resamples`, or fewer (at least 20) where R times `cells`, the work of one resample, exceeds `MOST_CELLS`.
    """
    count = max(20, min(resamples, int(MOST_CELLS / max(1, cells))))
    random = np.random.default_rng(seed)
    return random.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)


def resampled_figures(stats: ImageStats, weights: Floats) -> ResampledFigures:
    """Compute means over the classes that have labels in the resample, as Ultralytics does. `weights` is (R, n).

    A resample without any label counts as 0 in every figure.
    """
    classes = np.unique(stats.target_cls)
    resamples = len(weights)
    ap = np.zeros((resamples, len(classes), stats.tp.shape[1]))
    precision = np.zeros((resamples, len(classes), len(CONFIDENCES)))
    recall = np.zeros_like(precision)
    labels = np.zeros((resamples, len(classes)))
    for k, (number, curve) in enumerate(_by_class(stats, weights, classes)):
        labels[:, k] = number
        ap[:, k] = curve.average_precision(number)
        precision[:, k], recall[:, k] = curve.at_confidences(number)
    present = labels > 0
    at_best_f1 = _best_f1(precision, recall, present)
    return ResampledFigures(
        map50_95=_mean(ap.mean(axis=2), present),
        map50=_mean(ap[:, :, 0], present),
        precision=_mean(np.take_along_axis(precision, at_best_f1, axis=2)[:, :, 0], present),
        recall=_mean(np.take_along_axis(recall, at_best_f1, axis=2)[:, :, 0], present),
        classes=classes,
        per_class=np.where(present, ap.mean(axis=2), np.nan),
    )


def resampled_map(stats: ImageStats, weights: Floats) -> Floats:
    """Compute only the mean AP50-95, shape (R,): as `resampled_figures`, without precision and recall."""
    classes = np.unique(stats.target_cls)
    ap, labels = np.zeros((len(weights), len(classes))), np.zeros((len(weights), len(classes)))
    for k, (number, curve) in enumerate(_by_class(stats, weights, classes)):
        labels[:, k] = number
        ap[:, k] = curve.average_precision(number).mean(axis=1)
    return _mean(ap, labels > 0)


def _mean(values: Floats, present: npt.NDArray[np.bool_]) -> Floats:
    """Average over the present classes; (R, K) to (R,)."""
    totals: Floats = (values * present).sum(axis=1) / np.maximum(1, present.sum(axis=1))
    return totals


def _best_f1(precision: Floats, recall: Floats, present: npt.NDArray[np.bool_]) -> Ints:
    """Return the index of the confidence with the largest smoothed mean F1 over classes, shape (R, 1, 1)."""
    f1 = 2 * precision * recall / (precision + recall + 1e-16)
    mean = (f1 * present[:, :, None]).sum(axis=1) / np.maximum(1, present.sum(axis=1))[:, None]
    return np.array([_smooth(curve).argmax() for curve in mean])[:, None, None]


def _smooth(curve: Floats, share: float = 0.1) -> Floats:
    """Apply a box filter with repeated end values, as `ultralytics.utils.metrics.smooth`."""
    width = round(len(curve) * share * 2) // 2 + 1
    padding = np.ones(width // 2)
    padded = np.concatenate((padding * curve[0], curve, padding * curve[-1]))
    return np.convolve(padded, np.ones(width) / width, mode="valid")


@dataclass(frozen=True, slots=True)
class _Curve:
    """Detections of one class by descending confidence, and their weights (R, D of the class)."""

    tp: npt.NDArray[np.bool_]
    conf: Floats
    weights: Floats
    ignored: npt.NDArray[np.bool_] | None

    def average_precision(self, labels: Floats) -> Floats:
        """Return AP per IoU threshold, shape (R, T). `labels` (R,) is the weighted number of labels."""
        ap = np.zeros((len(labels), self.tp.shape[1]))
        drawn = self.weights.cumsum(axis=1)
        for t in range(self.tp.shape[1]):
            hits = np.flatnonzero(self.tp[:, t])
            if len(hits) and self.ignored is not None:
                drawn = (self.weights * ~self.ignored[:, t]).cumsum(axis=1)
            if len(hits):
                ap[:, t] = _interpolated(self.weights[:, hits].cumsum(axis=1), drawn[:, hits], labels)
        return ap

    def at_confidences(self, labels: Floats) -> tuple[Floats, Floats]:
        """Return precision and recall at IoU 0.5 over `CONFIDENCES`, each (R, 1000)."""
        shape = (len(labels), len(CONFIDENCES))
        if not len(self.conf):
            return np.zeros(shape), np.zeros(shape)
        drawn = self.weights.cumsum(axis=1)
        hits = (self.weights * self.tp[:, 0]).cumsum(axis=1)
        recall = hits / (labels[:, None] + 1e-16)
        precision = np.divide(hits, drawn, out=np.ones_like(hits), where=drawn > 0)
        lower, share = _grid_positions(self.conf)
        curves = (_at(precision, lower, share, left=1.0), _at(recall, lower, share, left=0.0))
        empty = drawn[:, -1] == 0  # Ultralytics leaves a class without detections at 0
        for curve in curves:
            curve[empty] = 0.0
        return curves


def _by_class(stats: ImageStats, weights: Floats, classes: Ints) -> Iterator[tuple[Floats, _Curve]]:
    order = np.argsort(-stats.conf, kind="stable")
    for c in classes:
        chosen = order[stats.pred_cls[order] == c]
        labels = weights[:, stats.target_image[stats.target_cls == c]].sum(axis=1)
        ignored = None if stats.ignored is None else stats.ignored[chosen]
        yield labels, _Curve(stats.tp[chosen], stats.conf[chosen], weights[:, stats.pred_image[chosen]], ignored)


def _interpolated(hits: Floats, drawn: Floats, labels: Floats) -> Floats:
    """Return the area under the precision envelope at 101 recalls, shape (R,).

    Between two true positives precision only falls, so the envelope at a recall r is the largest precision of any true
    positive with a recall above r: only true positives (R, P) are needed.
    """
    precision = np.divide(hits, drawn, out=np.zeros_like(hits), where=drawn > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / (labels[:, None] + 1e-16)
    heights = np.zeros((len(labels), len(RECALLS)))
    padded = np.concatenate((envelope, np.zeros((len(labels), 1))), axis=1)
    for r, row in enumerate(recall):
        heights[r] = padded[r, np.searchsorted(row, RECALLS, side="right")]
    return np.asarray(np.trapezoid(heights, RECALLS, axis=1), dtype=np.float64)


def _grid_positions(conf: Floats) -> tuple[Ints, Floats]:
    """Locate `CONFIDENCES` among descending confidences: index before (-1: above all) and fraction to the next."""
    rising = -conf
    lower = np.searchsorted(rising, -CONFIDENCES, side="right") - 1
    inner = np.clip(lower, 0, max(0, len(conf) - 2))
    upper = np.minimum(inner + 1, len(conf) - 1)
    step = rising[upper] - rising[inner]
    share = np.divide(-CONFIDENCES - rising[inner], step, out=np.zeros_like(step), where=step > 0)
    return lower, np.clip(share, 0, 1)


def _at(curve: Floats, lower: Ints, share: Floats, *, left: float) -> Floats:
    """Interpolate linearly like `numpy.interp(-CONFIDENCES, -conf, curve, left=left)`, for all resamples."""
    last = curve.shape[1] - 1
    inner = np.clip(lower, 0, max(0, last - 1))
    upper = np.minimum(inner + 1, last)
    values = curve[:, inner] + share * (curve[:, upper] - curve[:, inner])
    values[:, lower >= last] = curve[:, [last]]
    values[:, lower < 0] = left
    found: Floats = values
    return found
