"""Fronts and hypervolume, given the measuring error.

n rows, m objectives. Signs are flipped here only: `costs` turns figures into numbers to minimise, and every ranking
uses them.

Overlapping 95 % intervals are a tie: the difference may be noise. A front is computed in two steps.

**Dominance.** Row a dominates row b when

1. in *every* objective neither a's figure nor the bad end of a's 95 % interval is worse than b's, and
2. in *at least one* objective a is better beyond both errors: the intervals do not overlap.

This is a strict partial order (transitive: a over b over c gives bad(a) <= bad(b) < good(c) in the objective where b
beats c; irreflexive: an interval overlaps itself). Hence some row is always undominated, and adding a dominated row
changes nothing.

**Ties.** Some undominated rows are so by noise only, e.g. a slower, larger model whose accuracy came out slightly
higher. Row a *beats* row b when a is significantly better (beyond both errors) in at least one objective and b in none.
Rows that a member of the front beats are excluded.

Beating is not transitive: in a chain of small steps, each inside the error, each row beats the one before, and the last
is far worse than the first. So membership is decided from the top: unbeaten rows are members, rows that a member beats
are excluded, and so on among the rest. The ends of a chain are both on the front if they differ beyond the errors.
Rows that beat each other in a cycle (possible from three objectives on) are all members.

Exact figures give the usual Pareto front; equal rows all stay. An excluded row is dominated, or beaten by a member; a
member is beaten only within its own cycle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
import numpy.typing as npt

from objectives.errors import ObjectiveError
from objectives.objective import Estimate, Objective, figure

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.intp]
Row = Mapping[str, Estimate]
_BLOCK = 256
"""Rows that are compared at once: their table of pairs stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Figures with one sign, to be minimised. Each array has the shape (n, m)."""

    value: Floats
    good: Floats
    """The end of the interval on the better side."""
    bad: Floats
    """The end of the interval on the worse side."""


def costs(rows: Sequence[Row], objectives: Sequence[Objective]) -> Costs:
    """Convert the rows' figures to costs. Raises `ObjectiveError` for a missing figure or no objective."""
    if not objectives:
        raise ObjectiveError("No objective was given: a front needs at least one.")
    cells = [[_cost(row, o, f"row {i}") for o in objectives] for i, row in enumerate(rows)]
    table = np.array(cells, dtype=np.float64).reshape(len(rows), len(objectives), 3)
    return Costs(table[..., 0], table[..., 1], table[..., 2])


def _cost(row: Row, objective: Objective, where: str) -> tuple[float, float, float]:
    estimate = figure(row, objective.name, where)
    if objective.direction == "min":
        return estimate.value, estimate.low, estimate.high
    return -estimate.value, -estimate.high, -estimate.low


def pareto_front(rows: Sequence[Row], objectives: Sequence[Objective]) -> tuple[int, ...]:
    """Return the ascending indices of the rows that no other dominates by its bare figures; equal rows all stay.

    What optuna-dashboard shows of the same study: errors play no part in it.
    """
    return tuple(map(int, np.flatnonzero(moocore.is_nondominated(costs(rows, objectives).value, keep_weakly=True))))


@dataclass(frozen=True, slots=True)
class Fronts:
    """Two fronts of the same rows, as ascending indices: see `significant_front` and `undominated`."""

    significant: tuple[int, ...]
    undominated: tuple[int, ...]


def fronts(rows: Sequence[Row], objectives: Sequence[Objective]) -> Fronts:
    """Return both fronts that respect errors; of no rows: two empty ones."""
    table = costs(rows, objectives)
    left = _undominated(table)
    return Fronts(tuple(sorted(_unbeaten(left, _beats(table, left)))), tuple(left))


def significant_front(rows: Sequence[Row], objectives: Sequence[Objective]) -> tuple[int, ...]:
    """Return the ascending indices of the rows on the front that respects errors; see the head of this module.

    For exact figures it is the `pareto_front`. Of no rows: an empty tuple.
    """
    return fronts(rows, objectives).significant


def undominated(rows: Sequence[Row], objectives: Sequence[Objective]) -> tuple[int, ...]:
    """Return the ascending indices of the rows that may still reach the front when further rows are added.

    A dominated row stays dominated. A row that is only beaten returns when the row that beats it is beaten itself.
    """
    return tuple(_undominated(costs(rows, objectives)))


def _undominated(table: Costs) -> list[int]:
    """Return the undominated rows' indices, ascending.

    A dominating row comes first in the lexicographic order of the bad ends, and a dominated row has an undominated
    dominator (the order is transitive). So in that order each block of rows is compared with itself and with the
    undominated rows before it: n times the length of the front instead of n squared.
    """
    order = np.lexsort(table.bad.T[::-1])
    kept = np.empty(0, dtype=np.intp)
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        before = np.concatenate([kept, block])
        kept = np.concatenate([kept, block[~_are_dominated(table, block, before)]])
    return sorted(map(int, kept))


def _are_dominated(table: Costs, rows: Indices, others: Indices) -> Flags:
    """Return, for each of `rows`, whether one of `others` dominates it."""
    shape = (len(others), len(rows))
    not_worse, better = np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for column in range(table.value.shape[1]):
        value, good, bad = table.value[:, column], table.good[:, column], table.bad[:, column]
        not_worse &= (value[others, None] <= value[rows]) & (bad[others, None] <= bad[rows])
        better |= bad[others, None] < good[rows]
    return np.asarray((not_worse & better).any(axis=0))


def _beats(table: Costs, rows: Sequence[int]) -> Flags:
    """Return, with shape (k, k) over `rows`, whether the first beats the second."""
    good, bad = table.good[rows], table.bad[rows]
    clearly = np.asarray((bad[:, None] < good[None]).any(axis=2))
    return clearly & ~clearly.T


def _unbeaten(rows: Sequence[int], beats: Flags) -> list[int]:
    """Return the members among `rows`: unbeaten, or beaten only within their cycle or by rows that are beaten."""
    from scipy.sparse.csgraph import connected_components  # a second of imports that a refused command need not wait

    kept: list[int] = []
    left = np.arange(len(rows))
    while len(left):
        among = beats[np.ix_(left, left)]
        _, circle = connected_components(among, connection="strong")
        from_outside = (among & (circle[:, None] != circle[None])).any(axis=0)
        top = ~np.isin(circle, circle[from_outside])
        kept += [rows[i] for i in left[top]]
        left = left[~top & ~among[top].any(axis=0)]
    return kept


def hypervolume(rows: Sequence[Row], objectives: Sequence[Objective], reference: Mapping[str, float]) -> float:
    """Return the volume between the rows' point values and the reference, in the product of the objectives' units.

    `reference` gives the worst acceptable figure per objective; a row that is not better than it in every objective
    adds nothing. Intervals are ignored: the figure tracks the progress of a search and must not jump when a
    re-measurement only narrows an interval.

    Raises `ObjectiveError` if the reference lacks an objective or is not finite. Source: Zitzler and Thiele 1998
    (S-metric); computed by moocore (Fonseca, Paquete, Lopez-Ibanez 2006).
    """
    points = costs(rows, objectives).value
    return float(moocore.hypervolume(points, ref=volume_corner(objectives, reference))) if len(points) else 0.0


def volume_corner(objectives: Sequence[Objective], reference: Mapping[str, float]) -> Floats:
    """Return the reference of `hypervolume` as costs, with shape (m,). Raises as `hypervolume`."""
    corner: Floats = costs([_reference_row(objectives, reference)], objectives).value[0]
    return corner


class GrowingVolume:
    """The hypervolume of a growing set of points: only a point that no earlier one covers is worth a computation.

    Args:
        points: the set to begin with, as costs, with shape (n, m).
        corner: the reference, from `volume_corner`.
    """

    def __init__(self, points: Floats, corner: Floats) -> None:
        inside = points[(points < corner).all(axis=1)]
        self._front: Floats = inside[moocore.is_nondominated(inside)] if len(inside) else inside
        self._corner = corner
        self._volume: float | None = None

    def add(self, point: Floats) -> float:
        """Add a point, with shape (m,), and return the volume of the whole set."""
        if (point < self._corner).all() and not (self._front <= point).all(axis=1).any():
            uncovered = self._front[~(point <= self._front).all(axis=1)]
            self._front, self._volume = np.vstack([uncovered, point]), None
        if self._volume is None:
            self._volume = float(moocore.hypervolume(self._front, ref=self._corner)) if len(self._front) else 0.0
        return self._volume


def _reference_row(objectives: Sequence[Objective], reference: Mapping[str, float]) -> Row:
    missing = [o.name for o in objectives if o.name not in reference]
    if missing:
        raise ObjectiveError(f"The hypervolume reference has no figure for {', '.join(missing)}: name one for each.")
    try:
        return {o.name: Estimate.exact(reference[o.name]) for o in objectives}
    except ValueError as fault:
        raise ObjectiveError(f"The hypervolume reference must be finite numbers. {fault}") from fault
