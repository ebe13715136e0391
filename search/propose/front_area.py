"""What a point adds to a front of (cost, accuracy), both as shares of the base's: the guide chooses by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

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


def worth_of(budget: float | None, worst: float = WORST) -> Callable[[Front, float, float], float]:
    """Return what measures the worth of one more point: for the front, or within a budget (`promotion.Worth`)."""
    return partial(added_to_front, worst) if budget is None else partial(added_within, budget)


def added_to_front(worst: float, points: Sequence[tuple[float, float]], cost: float, share: float) -> float:
    """Return the area that a point adds to what the points dominate."""
    return added_volume(undominated(points), cost, share, worst)


def added_within(budget: float, points: Sequence[tuple[float, float]], cost: float, share: float) -> float:
    """Return the accuracy that a point adds within a budget."""
    best = max((other for price, other in points if price <= budget), default=0.0)
    return max(0.0, share - best) if cost <= budget else 0.0
