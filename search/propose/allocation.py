"""Allocation: the widths that harm the network least for a given latency, before any trial.

Every dimension of the space has a list of options: the widths that it can really have, each with a *price*, the
divergence of the outputs that it causes alone (prepare/sensitivity_curves.py). The *cost* of a vector is its predicted
latency as a share of the base's. Minimise the sum of prices under a bound on the cost: a multiple-choice knapsack, as
in HALP (Shen et al., NeurIPS 2022, arXiv 2110.10811).

Latency is not a sum over dimensions, since a layer's work is c_in * c_out (MDP, Sun et al., CVPR 2025, arXiv
2504.02168). So the knapsack is solved through its Lagrangian, price + multiplier * cost (Everett, Operations Research
11, 1963; for bit allocation Shoham and Gersho, IEEE TASSP 36, 1988), by coordinate descent that evaluates the true
cost of each choice. The multiplier rises step by step from 0, each step starting from the last result: the path
is a ladder of vectors from the base to the smallest network, and a budget is met by its last rung within the budget,
widened again to use up the rest.

Symbols: D dimensions, k options, G groups, n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from search.space import Space
from search.trial import Candidate

if TYPE_CHECKING:
    from pruning.sensitivity import Curve

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CostOf = Callable[[Ints, tuple[str, ...]], Floats]
"""(n, G) group widths and the removed blocks -> (n,) cost as a share of the base's. May be `Walkable`."""


class Walk(Protocol):
    """A vector of group widths, for evaluating the cost of single changes."""

    def choices(self, columns: Ints, widths: Ints) -> Floats:
        """Return the costs (k,), up to a common constant, of a table of widths (k, m) for the columns (m,)."""
        ...

    def take(self, columns: Ints, widths: Ints, entry: int) -> None:
        """Set the columns (m,) to one entry of the table."""
        ...


@runtime_checkable
class Walkable(Protocol):
    """A cost function that evaluates single changes faster than whole vectors."""

    def walk(self, widths: Ints, removed: tuple[str, ...]) -> Walk:
        """Start at group widths (G,)."""
        ...


class PlainWalk:
    """A `Walk` over any cost function."""

    def __init__(self, cost_of: CostOf, widths: Ints, removed: tuple[str, ...]) -> None:
        self._cost_of, self._widths, self._removed = cost_of, widths.copy(), removed

    def choices(self, columns: Ints, widths: Ints) -> Floats:
        rows = np.repeat(self._widths[None], len(widths), axis=0)
        rows[:, columns] = widths
        return self._cost_of(rows, self._removed)

    def take(self, columns: Ints, widths: Ints, entry: int) -> None:
        self._widths[columns] = widths[entry]


PLANNED = 0.97
"""Share of a latency limit that is aimed at: a prediction errs by a few percent."""
MULTIPLIERS = np.geomspace(1e-3, 1e3, 48)
EXPONENT = 1.5
"""Prices are divergences to this power: a fine-tune repairs many small damages better than a few large ones. Powers
from 1 to 3 rank the measured plans about equally well, smaller ones worse (benchmarks/search_table.py --exponents)."""
TYPICAL = 0.1
"""The divergence that is its own price."""
FLOOR = 1e-4
"""Divergence of a dimension that seemed to do nothing on the calibration images, at ratio 1: they are few, so no part
is free. A floor that is not far below what matters makes allocation spare what is idle (it was 0.002: the plans that it
made lost to equal tolerance, benchmarks/search_table.py)."""
_SWEEPS = 6
_RUNGS = 3
"""Rungs from which a budget is filled; the best result counts."""


@dataclass(frozen=True)
class WidthOptions:
    """The width options of one dimension.

    Attributes:
        name: of the dimension; `parameter` of a removable block.
        columns: (m,) numbers of its groups.
        widths: (k, m) their widths, widest first.
        ratios: (k,) the ratio that realises each option.
        prices: (k,) divergence price, 0 for the first.
        stage: the name of its coefficient.
    """

    name: str
    columns: Ints
    widths: Ints
    ratios: Floats
    prices: Floats
    stage: str


@dataclass(frozen=True)
class Removal:
    """A removable block and the price of removing it."""

    path: str
    price: float
    stage: str
    inside: frozenset[str]


@dataclass(frozen=True)
class Vector:
    """One option per dimension, and the removed blocks."""

    entries: tuple[int, ...]
    removed: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Cached hash: thousands of told vectors are looked up at every ask."""
        return hash((self.entries, self.removed))


@dataclass(frozen=True)
class Allocator:
    """Finds vectors for budgets under weighted prices.

    Args:
        full: (G,) widths of the base.
        cost_of: see `CostOf`.
    """

    space: Space
    dims: tuple[WidthOptions, ...]
    removals: tuple[Removal, ...]
    full: Ints
    cost_of: CostOf
    _paths: dict[tuple[float, ...], tuple[Vector, ...]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Names of the coefficients, in network order."""
        return tuple(dict.fromkeys([*(options.stage for options in self.dims), *(one.stage for one in self.removals)]))

    @property
    def whole(self) -> Vector:
        """The base: nothing removed."""
        return Vector((0,) * len(self.dims))

    def within(self, budget: float, weights: Mapping[str, float] | None = None) -> Candidate:
        """Return the best vector whose cost is at most `budget` (a share of the base's), or the smallest network.

        `weights` multiplies the prices of whole stages; the default is 1.
        """
        return self.candidate(self.vector_within(budget, weights or {}))

    def vector_within(self, budget: float, weights: Mapping[str, float]) -> Vector:
        """Return `within` as options."""
        path = self.path(weights)
        fitting = [vector for vector in path if self.cost(vector) <= budget]
        if not fitting:
            return path[-1]
        tried = [self._exchanged(self._widened(one, budget, weights), budget, weights) for one in fitting[:_RUNGS]]
        return min(tried, key=lambda vector: self.price(vector, weights))

    def path(self, weights: Mapping[str, float]) -> tuple[Vector, ...]:
        """Return the ladder from the base to the smallest network, by rising multiplier."""
        key = tuple(weights.get(stage, 1.0) for stage in self.stages)
        if key not in self._paths:
            self._paths.clear()  # one path is asked for many budgets; older ones are not asked for again
            self._paths[key] = tuple(self._climb(weights))
        return self._paths[key]

    def cost(self, vector: Vector) -> float:
        """Return the cost as a share of the base's."""
        return float(self.cost_of(self.widths(vector)[None], vector.removed)[0])

    def price(self, vector: Vector, weights: Mapping[str, float] | None = None) -> float:
        """Return the sum of the weighted prices."""
        paid, known = self.prices_by_stage(vector), weights or {}
        return sum(price * known.get(stage, 1.0) for stage, price in paid.items())

    def prices_by_stage(self, vector: Vector) -> dict[str, float]:
        """Map stage -> sum of its prices."""
        total = dict.fromkeys(self.stages, 0.0)
        gone = self._gone(vector.removed)
        for options, entry in zip(self.dims, vector.entries, strict=True):
            if options.name not in gone:
                total[options.stage] += float(options.prices[entry])
        for removal in self.removals:
            if removal.path in vector.removed:
                total[removal.stage] += removal.price
        return total

    def widths(self, vector: Vector) -> Ints:
        """Return the group widths (G,)."""
        widths = self.full.copy()
        for options, entry in zip(self.dims, vector.entries, strict=True):
            widths[options.columns] = options.widths[entry]
        return widths

    def candidate(self, vector: Vector) -> Candidate:
        """Convert the vector to a point of the space."""
        chosen = zip(self.dims, vector.entries, strict=True)
        ratios = {options.name: float(options.ratios[entry]) for options, entry in chosen}
        return Candidate(ratios, self.space.sizes[0], self.space.precisions[0], vector.removed)

    def vector(self, candidate: Candidate) -> Vector:
        """Return the options that a candidate realises: per dimension the narrowest at least as wide as requested."""
        entries = tuple(
            int(np.flatnonzero(options.ratios <= candidate.ratios[options.name] + 1e-9)[-1]) for options in self.dims
        )
        return Vector(entries, candidate.removed)

    def _climb(self, weights: Mapping[str, float]) -> Iterator[Vector]:
        vector = self.whole
        yield vector
        for multiplier in MULTIPLIERS:
            vector = self._descend(vector, float(multiplier), weights)
            yield vector
        yield Vector(tuple(len(options.prices) - 1 for options in self.dims), tuple(one.path for one in self.removals))

    def _descend(self, vector: Vector, multiplier: float, weights: Mapping[str, float]) -> Vector:
        """Minimise price + multiplier * cost by coordinate descent."""
        for _ in range(_SWEEPS):
            before = vector
            vector = self._sweep(vector, multiplier, weights)
            for removal in self.removals:
                vector = self._with_or_without(vector, removal, multiplier, weights)
            if vector == before:
                break
        return vector

    def _sweep(self, vector: Vector, multiplier: float, weights: Mapping[str, float]) -> Vector:
        """Set every dimension once, in network order, to its best option given all others."""
        entries, walk, gone = list(vector.entries), self._walk(vector), self._gone(vector.removed)
        for number, options in enumerate(self.dims):
            if options.name in gone:
                continue
            costs = walk.choices(options.columns, options.widths)
            best = int((weights.get(options.stage, 1.0) * options.prices + multiplier * costs).argmin())
            if best != entries[number]:
                entries[number] = best
                walk.take(options.columns, options.widths, best)
        return replace(vector, entries=tuple(entries))

    def _walk(self, vector: Vector) -> Walk:
        widths = self.widths(vector)
        if isinstance(self.cost_of, Walkable):
            return self.cost_of.walk(widths, vector.removed)
        return PlainWalk(self.cost_of, widths, vector.removed)

    def _with_or_without(
        self, vector: Vector, removal: Removal, multiplier: float, weights: Mapping[str, float]
    ) -> Vector:
        others = tuple(path for path in vector.removed if path != removal.path)
        order = [one.path for one in self.removals]
        there = replace(vector, removed=others)
        gone = replace(vector, removed=tuple(sorted((*others, removal.path), key=order.index)))
        paid = weights.get(removal.stage, 1.0) * removal.price - self._inside(there, removal, weights)
        return gone if paid + multiplier * (self.cost(gone) - self.cost(there)) < 0 else there

    def _inside(self, vector: Vector, removal: Removal, weights: Mapping[str, float]) -> float:
        """Return the weighted prices of the dimensions that would be removed with a block."""
        inside = removal.inside - self._gone(vector.removed)
        entries = zip(self.dims, vector.entries, strict=True)
        return sum(weights.get(m.stage, 1.0) * float(m.prices[entry]) for m, entry in entries if m.name in inside)

    def _widened(self, vector: Vector, budget: float, weights: Mapping[str, float]) -> Vector:
        """Use up the rest of the budget: repeat the widening step that saves the most price for its cost."""
        while (wider := self._best_step_back(vector, budget, weights)) is not None:
            vector = wider
        return vector

    def _best_step_back(self, vector: Vector, budget: float, weights: Mapping[str, float]) -> Vector | None:
        gone = self._gone(vector.removed)
        steps = [n for n, entry in enumerate(vector.entries) if entry > 0 and self.dims[n].name not in gone]
        if not steps:
            return None
        rows = np.repeat(self.widths(vector)[None], len(steps) + 1, axis=0)
        for row, number in enumerate(steps):
            options = self.dims[number]
            rows[row, options.columns] = options.widths[vector.entries[number] - 1]
        *costs, now = self.cost_of(rows, vector.removed).tolist()
        worth = [
            -1.0 if cost > budget else self._saved(vector, number, weights) / max(cost - now, 1e-6)
            for number, cost in zip(steps, costs, strict=True)
        ]
        best = int(np.argmax(worth))
        return None if worth[best] < 0 else _with_entry(vector, steps[best], vector.entries[steps[best]] - 1)

    def _exchanged(self, vector: Vector, budget: float, weights: Mapping[str, float]) -> Vector:
        """Narrow one dimension and widen another as long as that saves price within the budget."""
        while (better := self._best_exchange(vector, budget, weights)) is not None:
            vector = self._widened(better, budget, weights)
        return vector

    def _best_exchange(self, vector: Vector, budget: float, weights: Mapping[str, float]) -> Vector | None:
        gone = self._gone(vector.removed)
        there = [n for n, options in enumerate(self.dims) if options.name not in gone]
        wider = {n: self._saved(vector, n, weights) for n in there if vector.entries[n] > 0}
        narrower = {
            n: self._paid(vector, n, weights) for n in there if vector.entries[n] + 1 < len(self.dims[n].prices)
        }
        gains = {(a, b): saved - paid for a, saved in wider.items() for b, paid in narrower.items() if a != b}
        useful = sorted((pair for pair, gain in gains.items() if gain > 1e-12), key=gains.__getitem__, reverse=True)
        if not useful:
            return None
        rows = np.repeat(self.widths(vector)[None], len(useful), axis=0)
        for row, (a, b) in enumerate(useful):
            rows[row, self.dims[a].columns] = self.dims[a].widths[vector.entries[a] - 1]
            rows[row, self.dims[b].columns] = self.dims[b].widths[vector.entries[b] + 1]
        fits = np.flatnonzero(self.cost_of(rows, vector.removed) <= budget)
        if not fits.size:
            return None
        a, b = useful[int(fits[0])]
        return _with_entry(_with_entry(vector, a, vector.entries[a] - 1), b, vector.entries[b] + 1)

    def _paid(self, vector: Vector, number: int, weights: Mapping[str, float]) -> float:
        """Return the price of narrowing a dimension by one more step."""
        options, entry = self.dims[number], vector.entries[number]
        return weights.get(options.stage, 1.0) * float(options.prices[entry + 1] - options.prices[entry])

    def _saved(self, vector: Vector, number: int, weights: Mapping[str, float]) -> float:
        """Return the price saved by widening a dimension by one step."""
        options, entry = self.dims[number], vector.entries[number]
        return weights.get(options.stage, 1.0) * float(options.prices[entry] - options.prices[entry - 1])

    def shaken(self, spread: float, random: np.random.Generator) -> Allocator:
        """Multiply each dimension's prices by a log-normal factor with standard deviation `spread`."""
        factors = np.exp(spread * random.standard_normal(len(self.dims)))
        dims = [replace(m, prices=m.prices * factor) for m, factor in zip(self.dims, factors, strict=True)]
        return replace(self, dims=tuple(dims), _paths={})

    def _gone(self, removed: tuple[str, ...]) -> frozenset[str]:
        """Return the dimensions that lie in removed blocks."""
        return frozenset().union(*(removal.inside for removal in self.removals if removal.path in removed))


def width_options_of(
    name: str, columns: Sequence[int], widths: npt.ArrayLike, ratios: Sequence[float], curve: Curve, stage: str
) -> WidthOptions:
    """Build the options with prices read from the curve, limited to the least width of a part."""
    table, asked = np.asarray(widths, dtype=np.int64), np.asarray(ratios, dtype=np.float64)
    prices = price_of(np.array([curve.at(ratio) for ratio in asked]) + FLOOR * asked)
    return WidthOptions(name, np.asarray(columns, dtype=np.int64), table, asked, prices, stage)


def price_of(divergence: Floats) -> Floats:
    """Convert a divergence of the outputs to a price."""
    return np.asarray(TYPICAL * (divergence / TYPICAL) ** EXPONENT)


def divergence_of(price: Floats) -> Floats:
    """Invert `price_of`."""
    return np.asarray(TYPICAL * (price / TYPICAL) ** (1 / EXPONENT))


def removal_of(space: Space, path: str, divergence: float, stage: str) -> Removal:
    """Return a removable block; dimensions whose groups all lie inside are removed with it."""
    block = next(block for block in space.blocks if block.path == path)
    inside = frozenset(d.name for d in space.dimensions if set(d.groups) <= set(block.groups))
    return Removal(path, price_of(np.array([divergence + FLOOR])).item(), stage, inside)


def _with_entry(vector: Vector, number: int, entry: int) -> Vector:
    return replace(vector, entries=(*vector.entries[:number], entry, *vector.entries[number + 1 :]))
