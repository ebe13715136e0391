"""What a point adds to a front of (cost, accuracy), both as shares of the base's: the guide chooses by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Front = Sequence[tuple[float, float]]
"""(cost, share) by rising cost."""
WORST = 1.05
"""Volume counts within so many times the base's cost."""


def undominated(points: Iterable[tuple[float, float]]) -> Front:
    """Return the (cost, share) that no other dominates, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, share in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or share > front[-1][1]:
            front.append((cost, share))
    return tuple(front)


def added_volume(front: Front, cost: float, share: float, worst: float = WORST) -> float:
    """Return the area that a point adds to the dominated region, within cost <= `worst` and share >= 0."""
    area, left = 0.0, cost
    level = 0.0
    for other, height in (*front, (worst, 0.0)):
        if other <= cost:
            level = max(level, height)
            continue
        area += max(0.0, min(other, worst) - left) * max(0.0, share - level)
        left, level = max(left, other), max(level, height)
    return area
