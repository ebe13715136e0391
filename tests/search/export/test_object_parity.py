"""Objects of a graph that suppresses by itself, held against Ultralytics' own suppression."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.export.graph_options import GraphOptions
from search.export.object_parity import compare_objects
from search.export.parity import batches, parity_fault

GRAPH = GraphOptions(nms=True)
DETECTOR = SimpleNamespace(names={0: "a", 1: "b"}, task="detect")


def raw() -> list[Any]:
    """Two boxes of two classes, one that the first suppresses, and one below the threshold; of a batch of one."""
    anchors = np.zeros((1, 6, 8), np.float32)
    anchors[0, :, 0] = [20, 20, 10, 10, 0.9, 0.1]
    anchors[0, :, 1] = [20.5, 20, 10, 10, 0.8, 0.1]
    anchors[0, :, 2] = [40, 40, 8, 8, 0.1, 0.6]
    anchors[0, :, 3] = [50, 20, 8, 8, 0.2, 0.1]
    return [anchors]


def rows(*objects: list[float]) -> list[Any]:
    found = np.zeros((1, 300, 6), np.float32)
    found[0, : len(objects)] = np.array(objects, np.float32).reshape(-1, 6)
    return [found]


FIRST, SECOND = [15.0, 15.0, 25.0, 25.0, 0.9, 0.0], [36.0, 36.0, 44.0, 44.0, 0.6, 1.0]


def compared(found: list[Any], model: Any = DETECTOR) -> Any:
    return compare_objects(model, [raw()], [found], GRAPH, 64, "val")


def test_equal_objects_do_not_differ_in_whatever_order() -> None:
    parity = compared(rows(SECOND, FIRST))
    assert (parity.max_abs, parity.relative, parity.images) == (0.0, 0.0, 1) and parity_fault(parity, "fp32") is None


@pytest.mark.parametrize(
    ("found", "share"),
    [
        (rows(FIRST), 1.0),
        (rows(FIRST, SECOND, [1, 1, 5, 5, 0.5, 1.0]), (36 - 1) / 64 + 0.0),
        (rows(FIRST, [*SECOND[:5], 0.0]), 1.0),
        (rows(FIRST, [*SECOND[:4], 0.5, 1.0]), 0.1),
        (rows([15.0, 15.0, 25.0, 31.4, 0.9, 0.0], SECOND), 0.1),
        (rows(), 1.0),
    ],
)
def test_a_missing_an_additional_and_another_object_differ(found: list[Any], share: float) -> None:
    parity = compared(found)
    assert parity.relative >= share - 1e-3 and parity_fault(parity, "fp32") is not None


def test_an_object_at_the_threshold_may_be_there_or_not() -> None:
    near = raw()
    near[0][0, 4, 3] = 0.26
    assert compare_objects(DETECTOR, [near], [rows(FIRST, SECOND)], GRAPH, 64, "val").relative == 0


def test_what_is_beside_boxes_is_compared_as_it_is() -> None:
    masks = np.random.default_rng(0).random((1, 4, 8, 8), dtype=np.float32)
    same = compare_objects(DETECTOR, [[*raw(), masks]], [[*rows(FIRST, SECOND), masks]], GRAPH, 64, "val")
    assert same.relative == 0
    other = compare_objects(DETECTOR, [[*raw(), masks]], [[*rows(FIRST, SECOND), masks + 0.5]], GRAPH, 64, "val")
    assert other.relative > 0.1


@pytest.mark.parametrize(
    ("height", "width", "stride", "halved"),
    [(96, 128, 32, False), (128, 96, 32, False), (64, 128, 32, True), (192, 192, 64, False), (256, 128, 64, True)],
)
def test_a_free_graph_is_halved_where_both_sides_stay_whole_strides(
    height: int, width: int, stride: int, halved: bool
) -> None:
    images = [np.zeros((1, 3, height, width), np.float32)] * 2
    free = batches(images, GraphOptions(dynamic=True), stride)
    assert ((1, 3, height // 2, width // 2) in [one.shape for one in free]) == halved and len(free) == 4 + halved


def test_a_graph_is_looked_at_with_as_many_images_as_it_takes() -> None:
    images = [np.full((1, 3, 64, 64), number, np.float32) for number in range(4)]
    assert [one.shape[0] for one in batches(images, GraphOptions())] == [1, 1, 1, 1]
    four = batches(images, GraphOptions(batch=3))
    assert [one[:, 0, 0, 0].tolist() for one in four] == [[0, 1, 2], [1, 2, 3], [2, 3, 0], [3, 0, 1]]
    free = batches(images, GraphOptions(dynamic=True))
    assert [one.shape for one in free] == [(1, 3, 64, 64)] * 4 + [(2, 3, 64, 64)] * 4 + [(1, 3, 32, 32)]
