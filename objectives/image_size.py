"""The size of a network's input in px: one side of a square, or (height, width), as in tensors.

Everywhere a square is an int, so that equal sizes are equal values. Written down, in tables, records, keys and names, a
rectangle is `384x640`, height first, as Ultralytics prints it.
"""

from __future__ import annotations

import re
from math import prod

Size = int | tuple[int, int]
_WORD = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")


def sides(size: Size) -> tuple[int, int]:
    """Return (height, width)."""
    return (size, size) if isinstance(size, int) else size


def area(size: Size) -> int:
    """Return height times width: by it sizes are compared."""
    return prod(sides(size))


def written(size: Size) -> int | str:
    """Return 640, or `384x640`; `size_of` reads both."""
    return size if isinstance(size, int) else "{}x{}".format(*size)


def size_of(value: object) -> Size | None:
    """Return the size that is meant by 640, `384x640` or two sides [384, 640]; None if none is."""
    found = _WORD.fullmatch(value) if isinstance(value, str) else None
    given = [int(side) for side in found.groups()] if found else value
    if isinstance(given, int) and not isinstance(given, bool):
        return given if given > 0 else None
    if not isinstance(given, list | tuple) or len(given) != 2 or not all(size_of(one) == one for one in given):
        return None
    height, width = given
    return height if height == width else (height, width)


def rounded(size: Size, stride: int, share: float = 1.0) -> Size:
    """Return the size whose sides are `share` of these, in whole strides, at least one each."""
    height, width = (max(stride, round(share * side / stride) * stride) for side in sides(size))
    return height if height == width else (height, width)
