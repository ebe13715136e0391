"""Choose one model from a front: the best within budgets, the knee, the simplest within one standard error."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from objectives.errors import BoundError, NothingFits, ObjectiveError
from objectives.objective import OBJECTIVES, Estimate, Objective, figure, first_accuracy, objective_named
from objectives.pareto import Row, costs

_BOUND = re.compile(r"\s*(?P<name>[A-Za-z_]\w*)\s*(?P<op><=|>=|==|<|>|=)\s*(?P<limit>.*?)\s*")
_NUMBER = re.compile(r"(?P<number>[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*(?P<unit>[^\d\s].*)?")
_SMALLER_FIRST = ("params_m", "macs_g", "size_mb", "latency_ms")
_BETTER_SIDE: Mapping[str, Literal["<=", ">="]] = {"min": "<=", "max": ">="}


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit on one measured figure, in the objective's unit: `latency_ms<=5`, `map50_95>=0.4`."""

    name: str
    op: Literal["<=", ">="]
    limit: float

    def __post_init__(self) -> None:
        objective = _bounded_objective(self.name)
        side = _BETTER_SIDE[objective.direction]
        if self.op != side:
            better = "less" if objective.direction == "min" else "more"
            raise BoundError(f"{self}: of {self.name} {better} is better. Write {self.name}{side}{self.limit:g}.")
        _check_limit(objective, self.limit)

    @classmethod
    def parse(cls, text: str) -> Bound:
        """Parse `name<=number` or `name>=number`. Raises `BoundError` with the expected syntax."""
        match = _BOUND.fullmatch(text)
        if match is None:
            raise BoundError(f"Cannot read the bound {text!r}. Expected name<=number, such as latency_ms<=5.")
        objective = _bounded_objective(match["name"])
        limit = _limit(match["limit"], objective, text)
        if match["op"] in ("<=", ">="):
            return cls(objective.name, match["op"], limit)  # type: ignore[arg-type]
        raise BoundError(
            f"{text!r}: expected <= or >=, found {match['op']}. "
            f"Write {objective.name}{_BETTER_SIDE[objective.direction]}{limit:g}."
        )

    @classmethod
    def budget(cls, name: str, limit: float) -> Bound:
        """Return the bound on the good side: at most for a cost, at least for an accuracy."""
        return cls(name, _BETTER_SIDE[_bounded_objective(name).direction], float(limit))

    @property
    def objective(self) -> Objective:
        return OBJECTIVES[self.name]

    def holds(self, row: Row, where: str = "the row") -> bool:
        """Return whether the row's figure, not the end of its interval, is within the bound."""
        return self.excess(row, where) <= 0

    def excess(self, row: Row, where: str = "the row") -> float:
        """Return by what share of the limit the figure exceeds it; 0 or less if it is within."""
        return self._beyond(figure(row, self.name, where).value)

    def is_clear(self, row: Row) -> bool:
        """Return whether the whole 95 % interval is within the bound."""
        estimate = figure(row, self.name, "the row")
        return self._beyond(estimate.high if self.op == "<=" else estimate.low) <= 0

    def _beyond(self, value: float) -> float:
        gap = value - self.limit if self.op == "<=" else self.limit - value
        return gap / abs(self.limit) if self.limit else gap

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.limit:g}"


def _bounded_objective(name: str) -> Objective:
    try:
        return objective_named(name)
    except ObjectiveError as fault:
        raise BoundError(f"Cannot bound this. {fault}") from fault


def _limit(text: str, objective: Objective, whole: str) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BoundError(
            f"{whole!r}: expected a number after the sign, found {text!r}. Example: {_example(objective)}."
        )
    number = float(match["number"])
    if match["unit"] is None:
        return number
    if match["unit"] == "%" and objective.is_fraction:
        number /= 100
    raise BoundError(
        f"{whole!r}: write the number without a unit; {objective.name} is in {objective.unit}. "
        f"For example {objective.name}{_BETTER_SIDE[objective.direction]}{number:g}."
    )


def _example(objective: Objective) -> str:
    return f"{objective.name}{_BETTER_SIDE[objective.direction]}{'0.4' if objective.is_fraction else '5'}"


def _check_limit(objective: Objective, limit: float) -> None:
    if not math.isfinite(limit) or limit < 0:
        raise BoundError(f"{objective.name}: a limit must be a finite number of at least 0, found {limit}.")
    if objective.is_fraction and limit > 1:
        raise BoundError(
            f"{objective.name} is a fraction from 0 to 1, found the limit {limit:g}. "
            f"If that was a percentage, write {objective.name}>={limit / 100:g}."
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen row, and a sentence that gives the reason with figures."""

    index: int
    sentence: str


def pick(
    rows: Sequence[Row],
    bounds: Sequence[Bound],
    objectives: Sequence[Objective],
    *,
    labels: Sequence[str] | None = None,
) -> Choice:
    """Return the row of best accuracy within all bounds; ties: lower latency, then fewer parameters.

    Accuracy is the first objective that is no cost; without one, the first objective decides. `labels` name the rows in
    the sentence ("trial 17"). Raises `NothingFits` with the closest row, `ObjectiveError` on no rows or a missing
    figure.
    """
    names = _labels(rows, labels)
    goal = first_accuracy(objectives) or objectives[0]
    fitting = [i for i, row in enumerate(rows) if all(b.holds(row, names[i]) for b in bounds)]
    if not fitting:
        raise _nothing_fits(rows, bounds, names)
    order = (
        goal,
        *(OBJECTIVES[n] for n in ("latency_ms", "params_m") if n != goal.name and _all_have(rows, n)),
    )
    ranks = costs(rows, order).value
    best = min(fitting, key=lambda i: (*ranks[i], i))
    return Choice(best, _pick_sentence(rows, bounds, goal, best, fitting, names))


def _pick_sentence(
    rows: Sequence[Row],
    bounds: Sequence[Bound],
    goal: Objective,
    best: int,
    fitting: Sequence[int],
    names: Sequence[str],
) -> str:
    claim = f"{names[best]} has the {_superlative(goal)} {goal.title}, {_with_interval(rows[best], goal)}"
    if not bounds:
        return f"{claim}, of {_count(len(rows))}."
    held = " and ".join(f"{b} (it has {b.objective.text(rows[best][b.name].value)})" for b in bounds)
    unclear = [b.name for b in bounds if not b.is_clear(rows[best])]
    doubt = f"; the 95 % interval of {' and '.join(unclear)} reaches beyond the limit" if unclear else ""
    if len(fitting) == 1:
        alone = f"{names[best]} alone of {_count(len(rows))} is within {held}"
        return f"{alone}: {goal.title} {_with_interval(rows[best], goal)}{doubt}."
    return f"{claim}, of the {len(fitting)} among {_count(len(rows))} that are within {held}{doubt}."


def _nothing_fits(rows: Sequence[Row], bounds: Sequence[Bound], names: Sequence[str]) -> NothingFits:
    """Build the error with the closest row: the one whose worst relative excess is smallest."""
    excess = [max(b.excess(row, names[i]) for b in bounds) for i, row in enumerate(rows)]
    closest = min(range(len(rows)), key=lambda i: (excess[i], i))
    missed = [b for b in bounds if not b.holds(rows[closest])]
    reach = {b.name: _rounded_outwards(rows[closest][b.name].value, b.op) for b in missed}
    gaps = ", ".join(f"{b.objective.text(rows[closest][b.name].value)} against {b}" for b in missed)
    wish = " and ".join(f"{b.name}{b.op}{reach[b.name]:g}" for b in missed)
    sentence = (
        f"None of {_count(len(rows))} is within {', '.join(map(str, bounds))}. The closest is "
        f"{names[closest]}: {gaps}, "
        f"{100 * excess[closest]:.1f} % off. It would fit {wish}; or search further with this budget as a "
        f"constraint."
    )
    return NothingFits(closest, sentence, reach)


def _rounded_outwards(value: float, op: str) -> float:
    """Round to three digits, towards the side that admits `value`."""
    if value == 0:
        return 0.0
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    steps = math.ceil(value / step - 1e-9) if op == "<=" else math.floor(value / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    rounded = round(steps * step, digits)
    lets_in = rounded >= value if op == "<=" else rounded <= value
    return rounded if lets_in else value


def knee(rows: Sequence[Row], objectives: Sequence[Objective], *, labels: Sequence[str] | None = None) -> Choice:
    """Return the row after which more accuracy becomes expensive.

    On the accuracy-cost front, both scaled to 0..1, the row farthest above the straight line from the cheapest to the
    most accurate row (Das 1999, "On characterizing the knee of the Pareto curve"; the same distance as in Satopaa et
    al. 2011, "Kneedle"). Cost is `latency_ms` if it is an objective, else the first objective that is minimised. With
    fewer than three rows on the front, or none above the line, the most accurate row is chosen and the sentence says
    so. Raises `ObjectiveError` on no rows or without an accuracy and a cost.
    """
    names = _labels(rows, labels)
    accuracy, cost = first_accuracy(objectives), _cost(objectives)
    if accuracy is None or cost is None:
        raise ObjectiveError(
            "A knee lies between an accuracy and a cost: give one objective of each kind, "
            f"found: {', '.join(o.name for o in objectives) or 'none'}."
        )
    line = _staircase(rows, accuracy, cost)
    heights = _heights_above_chord(rows, line, accuracy, cost)
    if len(line) < 3 or max(heights) <= 1e-12:
        best = line[-1]
        return Choice(
            best,
            f"{names[best]} has the {_superlative(accuracy)} {accuracy.title}, "
            f"{_with_interval(rows[best], accuracy)}; the front of {_count(len(line))} has no knee.",
        )
    best = line[int(np.argmax(heights))]
    return Choice(best, _knee_sentence(rows, names, accuracy, cost, best, line))


def _staircase(rows: Sequence[Row], accuracy: Objective, cost: Objective) -> list[int]:
    """Return indices of the two-objective front by point values, from the cheapest to the most accurate."""
    points = costs(rows, (cost, accuracy)).value
    line: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: (*points[i], i)):
        if not line or points[i, 1] < points[line[-1], 1]:
            line.append(i)
    return line


def _heights_above_chord(rows: Sequence[Row], line: list[int], accuracy: Objective, cost: Objective) -> list[float]:
    points = costs([rows[i] for i in line], (cost, accuracy)).value
    span = np.ptp(points, axis=0)
    if not (span > 0).all():
        return [0.0] * len(line)
    x, y = ((points - points.min(axis=0)) / span).T
    # Both are costs: the line falls from (0, 1) to (1, 0), and a knee lies below it.
    return [float(h) for h in (1 - x - y) / math.sqrt(2)]


def _knee_sentence(
    rows: Sequence[Row],
    names: Sequence[str],
    accuracy: Objective,
    cost: Objective,
    best: int,
    line: list[int],
) -> str:
    top, row = rows[line[-1]], rows[best]
    given = accuracy.text(abs(top[accuracy.name].value - row[accuracy.name].value))
    share = 100 * (1 - row[cost.name].value / top[cost.name].value)
    return (
        f"{names[best]} is the knee of the front of {_count(len(line))}: {accuracy.title} "
        f"{_with_interval(row, accuracy)} at {cost.text(row[cost.name].value)}; against the most accurate, "
        f"{names[line[-1]]}, it gives up {given} for {share:.0f} % less {cost.title.lower()}."
    )


def one_se(rows: Sequence[Row], objectives: Sequence[Objective], *, labels: Sequence[str] | None = None) -> Choice:
    """Return the smallest model whose accuracy is within one standard error of the best.

    Source: Breiman, Friedman, Olshen, Stone 1984, "Classification and Regression Trees", section 3.4.3 (the 1 SE rule).
    The standard error is that of the best row. Smallest: by the first of params_m, macs_g, size_mb, latency_ms that
    every row has; ties go to the higher accuracy. Raises `ObjectiveError` on no rows, or without an accuracy or a size.
    """
    names = _labels(rows, labels)
    accuracy = first_accuracy(objectives)
    size = next((OBJECTIVES[n] for n in _SMALLER_FIRST if _all_have(rows, n)), None)
    if accuracy is None or size is None:
        raise ObjectiveError(f"The one-standard-error rule needs an accuracy and one of: {', '.join(_SMALLER_FIRST)}.")
    ranks = costs(rows, (size, accuracy)).value
    top = int(np.argmin(ranks[:, 1]))
    error = rows[top][accuracy.name].standard_error
    close = [i for i in range(len(rows)) if ranks[i, 1] <= ranks[top, 1] + error]
    best = min(close, key=lambda i: (*ranks[i], i))
    if best == top:
        return Choice(
            best,
            f"{names[best]} has the {_superlative(accuracy)} {accuracy.title}, {_with_interval(rows[best], accuracy)}, "
            f"and no smaller one of {_count(len(rows))} is within one standard error ({accuracy.text(error)}) of it.",
        )
    return Choice(
        best,
        f"{names[best]} is the smallest ({size.text(rows[best][size.name].value)}) of the {len(close)} out "
        f"of "
        f"{_count(len(rows))} whose {accuracy.title} is within one standard error ({accuracy.text(error)}) "
        f"of the best, "
        f"{names[top]}: {accuracy.text(rows[best][accuracy.name].value)} against "
        f"{accuracy.text(rows[top][accuracy.name].value)}.",
    )


def _superlative(objective: Objective) -> str:
    return "highest" if objective.direction == "max" else "lowest"


def _labels(rows: Sequence[Row], labels: Sequence[str] | None) -> Sequence[str]:
    if not rows:
        raise ObjectiveError(
            "There is nothing to choose from: no model has figures yet. Let at least one trial complete."
        )
    if labels is not None and len(labels) != len(rows):
        raise ObjectiveError(f"Expected one label per row: {len(rows)} rows, {len(labels)} labels.")
    return labels if labels is not None else [f"row {i}" for i in range(len(rows))]


def _cost(objectives: Sequence[Objective]) -> Objective | None:
    found = [o for o in objectives if o.is_cost]
    return next((o for o in found if o.name == "latency_ms"), found[0] if found else None)


def _all_have(rows: Sequence[Row], name: str) -> bool:
    return all(name in row for row in rows)


def _with_interval(row: Row, objective: Objective) -> str:
    estimate: Estimate = row[objective.name]
    if estimate.is_exact:
        return objective.text(estimate.value)
    low, high = objective.text(estimate.low), objective.text(estimate.high)
    return f"{objective.text(estimate.value)} ({low} to {high})"


def _count(number: int) -> str:
    return f"{number} model" if number == 1 else f"{number} models"
