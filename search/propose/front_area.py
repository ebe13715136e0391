"""What a point adds to a front of (cost, accuracy), both as shares of the base's: the guide chooses by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_WORST = 1.05


def undominated(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the points (cost, share) that no other beats in both, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, share in sorted((cost, -share) for cost, share in points):
        if not front or -share > front[-1][1]:
            front.append((cost, -share))
    return tuple(front)


def added_to_front(points: Sequence[tuple[float, float]], cost: float, share: float) -> float:
    """Return the area that a point adds to what the points dominate (`promotion.Worth`)."""
    return added_volume(undominated(points), cost, share)


def added_within(budget: float, points: Sequence[tuple[float, float]], cost: float, share: float) -> float:
    """Return the accuracy that a point adds within a budget (`promotion.Worth`)."""
    best = max((other for price, other in points if price <= budget), default=0.0)
    return max(0.0, share - best) if cost <= budget else 0.0


def added_volume(front: Sequence[tuple[float, float]], cost: float, share: float) -> float:
    """Return the area that a point adds to the dominated region, within cost <= 1.05 and share >= 0."""
    area, left = 0.0, cost
    level = 0.0
    for other, height in _steps(front):
        if other <= cost:
            level = max(level, height)
            continue
        area += max(0.0, min(other, _WORST) - left) * max(0.0, share - level)
        left, level = max(left, other), max(level, height)
    return area


def _steps(front: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    yield from front
    yield _WORST, 0.0
