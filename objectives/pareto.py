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
Row = Mapping[str, Estimate]


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


def significant_front(rows: Sequence[Row], objectives: Sequence[Objective]) -> tuple[int, ...]:
    """Return the ascending indices of the rows on the front that respects errors; see the head of this module.

    For exact figures it is the `pareto_front`. Of no rows: an empty tuple.
    """
    table = costs(rows, objectives)
    left = _undominated(table)
    return tuple(sorted(_unbeaten(left, _beats(table, left))))


def undominated(rows: Sequence[Row], objectives: Sequence[Objective]) -> tuple[int, ...]:
    """Return the ascending indices of the rows that may still reach the front when further rows are added.

    A dominated row stays dominated. A row that is only beaten returns when the row that beats it is beaten itself.
    """
    return tuple(_undominated(costs(rows, objectives)))


def _undominated(table: Costs) -> list[int]:
    return [i for i in range(len(table.value)) if not _dominators_of(table, i).any()]


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


def _dominators_of(table: Costs, i: int) -> Flags:
    """Return, with shape (n,), which rows dominate row i."""
    not_worse = (table.value <= table.value[i]) & (table.bad <= table.bad[i])
    better = table.bad < table.good[i]
    dominators: Flags = not_worse.all(axis=1) & better.any(axis=1)
    return dominators


def hypervolume(rows: Sequence[Row], objectives: Sequence[Objective], reference: Mapping[str, float]) -> float:
    """Return the volume between the rows' point values and the reference, in the product of the objectives' units.

    `reference` gives the worst acceptable figure per objective; a row that is not better than it in every objective
    adds nothing. Intervals are ignored: the figure tracks the progress of a search and must not jump when a
    re-measurement only narrows an interval.

    Raises `ObjectiveError` if the reference lacks an objective or is not finite. Source: Zitzler and Thiele 1998
    (S-metric); computed by moocore (Fonseca, Paquete, Lopez-Ibanez 2006).
    """
    corner = costs([_reference_row(objectives, reference)], objectives).value[0]
    points = costs(rows, objectives).value
    return float(moocore.hypervolume(points, ref=corner)) if len(points) else 0.0


def _reference_row(objectives: Sequence[Objective], reference: Mapping[str, float]) -> Row:
    missing = [o.name for o in objectives if o.name not in reference]
    if missing:
        raise ObjectiveError(f"The hypervolume reference has no figure for {', '.join(missing)}: name one for each.")
    try:
        return {o.name: Estimate.exact(reference[o.name]) for o in objectives}
    except ValueError as fault:
        raise ObjectiveError(f"The hypervolume reference must be finite numbers. {fault}") from fault
