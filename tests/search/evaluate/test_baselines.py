"""The rows that a search is held against."""

from __future__ import annotations

from search.evaluate.baselines import baseline_rows
from search.space import Dimension, Space


def sizes_at(stride: int) -> list[int | None]:
    space = Space((Dimension("a", ("a",), 0.0, 0.8),), (640,), stride=stride)
    return [row.imgsz for row in baseline_rows(["lower_size"], space, 640, 0)]


def test_lower_sizes_are_multiples_of_the_models_stride() -> None:
    assert all(size is not None and size % 64 == 0 and size < 640 for size in sizes_at(64))
    assert sizes_at(32) and sizes_at(64)
