"""Laws of input sizes: one value for each, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.image_size import Size, area, rounded, sides, size_of, written

side = st.integers(1, 16_384)


@given(side, side)
def test_what_is_written_is_read_again_and_equal_sizes_are_equal(height: int, width: int) -> None:
    size = size_of([height, width])
    assert size is not None and sides(size) == (height, width) and area(size) == height * width
    assert size == size_of((height, width)) == size_of(f"{height}x{width}") == size_of(written(size))
    assert isinstance(size, int) == (height == width), "a square is one side, however it was said"


@pytest.mark.parametrize(
    "value", [0, -32, True, 6.4, None, "", "x", "64x", "64x32x3", "-64x32", [], [64], [64, 0], [64, True], {64: 32}]
)
def test_what_is_no_size_is_none(value: object) -> None:
    assert size_of(value) is None


@given(side, side, st.sampled_from([32, 64]), st.floats(0.1, 1))
def test_a_share_of_a_size_is_whole_strides(height: int, width: int, stride: int, share: float) -> None:
    found = rounded(size_of([height, width]) or 1, stride, share)
    for was, now in zip((height, width), sides(found), strict=True):
        assert now % stride == 0 and now >= stride and (now == stride or abs(now - share * was) <= stride / 2 + 1e-6)


@pytest.mark.parametrize(("size", "lower"), [(640, 480), ((384, 640), (288, 480)), ((64, 96), 64)])
def test_three_quarters_of_a_size(size: Size, lower: Size) -> None:
    assert rounded(size, 32, 0.75) == lower
