"""Matching of detections for the accuracy on small objects, as COCO defines it.

D detections, L labels of one image, T IoU thresholds.

A label is small when its area is below 32 x 32 px of the *original* image, whatever the input size: areas are taken
where the validator has them, in px of the scaled input, and divided by the square of the scale. The area of a label is
that of its mask where the task has masks (as COCO has it), else that of its box, turned or not.

A detection takes the best free small label; failing that it takes a larger one, and then counts neither for nor
against the model. One that takes no label is wrong if it is small itself, and does not count otherwise. (Lin et al.
2014, "Microsoft COCO"; the rules are those of its evaluation code.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

SMALL_AREA = 32.0**2
"""Square pixels of the original image below which an object is small."""


@dataclass(frozen=True, slots=True)
class SmallMatches:
    """Matches of one image. `tp` (D, T): takes a small label; `ignored` (D, T): not counted; `small` (L,): labels."""

    tp: Flags
    ignored: Flags
    small: Flags


def match_small(iou: Floats, thresholds: Floats, areas: Floats, label_areas: Floats) -> SmallMatches:
    """Match detections, sorted by descending confidence, to labels.

    `iou` (L, D) is 0 where the classes differ; `areas` (D,) and `label_areas` (L,) in px of the original image.
    """
    small = label_areas < SMALL_AREA
    shape = (len(areas), len(thresholds))
    tp, other = np.zeros(shape, bool), np.zeros(shape, bool)
    taken = np.zeros((len(label_areas), len(thresholds)), bool)
    for j in np.flatnonzero((iou >= thresholds.min()).any(axis=0)) if iou.size else ():
        free = np.where(taken, 0.0, iou[:, j, None])
        tp[j] = _take(free, small, thresholds, taken, np.ones_like(tp[j]))
        other[j] = _take(free, ~small, thresholds, taken, ~tp[j])
    return SmallMatches(tp, ~tp & (other | (areas >= SMALL_AREA)[:, None]), small)


def _take(free: Floats, rows: Flags, thresholds: Floats, taken: Flags, wanted: Flags) -> Flags:
    """Assign one detection the best free label among `rows`, at every threshold where it is `wanted`; (T,)."""
    if not rows.any():
        return np.zeros(len(thresholds), bool)
    every = np.arange(len(thresholds))
    best = np.where(rows[:, None], free, -1.0).argmax(axis=0)
    found: Flags = wanted & (free[best, every] >= thresholds)
    taken[best, every] |= found
    return found
