"""Compare the objects of a graph that suppresses by itself with those of the model and Ultralytics' own suppression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from search.export.graph_options import GraphOptions
from search.export.parity import Array, compare_outputs
from search.export.report import Parity

CLEAR = 0.02
"""An object this far above the threshold must be there; nearer ones are decided by rounding."""
_SCORE, _CLASS = 4, 5


def compare_objects(
    model: Any, expected: list[list[Array]], found: list[list[Array]], graph: GraphOptions, imgsz: int, inputs: str
) -> Parity:
    """Return the largest difference of an object's box or score; 1 where an object is missing.

    Args:
        model: says task and classes.
        imgsz: longer side of the input in pixels; boxes are compared as shares of it.
        expected: raw outputs of the model for each batch; found: rows (batch, objects, 6 + ...) of the graph, and what
            the model gives beside boxes.
    """
    from ultralytics.utils.nms import non_max_suppression

    gaps, shares = [0.0], [0.0]
    for raw, got in zip(expected, found, strict=True):
        wanted = non_max_suppression(
            torch.from_numpy(raw[0].copy()), graph.conf, graph.iou, nc=len(model.names), rotated=model.task == "obb"
        )
        for rows, objects in zip(wanted, np.asarray(got[0], dtype=np.float32), strict=True):
            for gap, share in _differences(rows.numpy(), objects, graph.conf, imgsz):
                gaps.append(gap)
                shares.append(share)
    beside = [[raw[1:] for raw in expected], [got[1:] for got in found]]
    if any(map(len, beside[1])):
        shares.append(compare_outputs(beside[0], beside[1], inputs).relative)
    return Parity(inputs, sum(len(raw[0]) for raw in expected), max(gaps), max(shares), max(shares))


def _differences(wanted: Array, objects: Array, conf: float, imgsz: int) -> Iterator[tuple[float, float]]:
    """Yield (pixels, share) for every clear object of either, held against the nearest one of its class."""
    objects = objects[objects[:, _SCORE] > conf]
    for one, others in ((wanted, objects), (objects, wanted)):
        for row in one[one[:, _SCORE] > conf + CLEAR]:
            yield _nearest(row, others[others[:, _CLASS] == row[_CLASS]], imgsz)


def _nearest(row: Array, others: Sequence[Array] | Array, imgsz: int) -> tuple[float, float]:
    if not len(others):
        return float(imgsz), 1.0
    gaps = np.abs(np.asarray(others) - row)
    pixels, scores = gaps[:, :_SCORE].max(axis=1), gaps[:, _SCORE]
    at = int(np.argmin(pixels / imgsz + scores))
    return float(pixels[at]), float(max(pixels[at] / imgsz, scores[at]))
