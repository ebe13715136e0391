"""The `auto` sampler: allocation for the first trials, then allocation under prices that the trials have corrected.

A trial does not choose sixty ratios, but a budget and the coefficients of about ten stages; allocation turns them into
the best vector under these prices. So every candidate is near the front from the first trial on, and dozens of trials
are enough to learn the coefficients.

    opening    the ladder: budgets from nearly the base's cost to a quarter of it, at the prices as measured
    later      a sample of the coefficients (surrogate.py), single dimensions perturbed a little, which stages
               cannot express, the ladder under those prices, and of its rungs the one that adds the most hypervolume

The vectors of one ladder share all but the budget, so a whole front is evaluated at once. Where the study
names budgets, every other trial is for one of them, exactly within it.

Every trial also measures a latency, mostly near the front: the costs are refitted to these now and then, since
allocation exploits their errors.

Where new candidates add little, a network of the front is trained further instead: see `promotion.py`.

The divergence of a trial's outputs decides whether it is fine-tuned: see `screening.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np

from objectives.image_size import Size, area
from search.propose.allocation import Allocator, CostOf, Floats, Vector
from search.propose.front_area import WORST, Front, added_volume, undominated
from search.propose.promotion import PROMOTED, Effort, Tuned, promotion
from search.propose.promotion import Aim as PromotionAim
from search.propose.screening import AccuracyGoal, expected_share, expected_shares, screening_limit
from search.propose.surrogate import Surrogate, fit_surrogate
from search.trial import Candidate, ScreeningLimit

RUNGS = (0.85, 0.7, 0.55, 0.43, 0.33, 0.25)
"""Costs of the opening, as shares of the base's: a geometric ladder, since speed is asked for in factors."""
SHAKE = 0.4
"""Standard deviation of the logarithm of a single dimension's coefficient."""
_MOST = 400
"""The surrogate is fitted to the last so many trials, and the screening judges by as many."""
_TRIES = 4
_TIMED = 200
"""Costs are learned from the last so many timed trials."""


@dataclass(frozen=True)
class Variant:
    """An input size and a precision, with their effect on the unpruned base.

    Attributes:
        cost: latency as a share of the base's at the study's own size and precision.
        share: accuracy as a share of the base's.
    """

    imgsz: Size
    precision: str = "fp32"
    cost: float = 1.0
    share: float = 1.0


@dataclass(frozen=True)
class Point:
    """The guide's choice: widths, input size and precision."""

    vector: Vector
    variant: Variant


@dataclass(frozen=True)
class Timed:
    """A measured shape: group widths in the order of the graph, removed blocks, latency as a ratio to the base's."""

    widths: tuple[int, ...]
    removed: tuple[str, ...]
    ratio: float


@runtime_checkable
class LimitedBudget(Protocol):
    """A budget with other limits than the cost."""

    def over(self, cost: CostOf, time: float = 1.0, work: float = 1.0) -> CostOf:
        """Return a cost that is 1 where the first limit is reached.

        `time` and `work` are a variant's latency and MACs as shares of the base's before anything is pruned.
        """
        ...


class CostRefitter(Protocol):
    """Refits costs to measured shapes."""

    def costs(self, timed: Sequence[Timed]) -> CostOf:
        """Return costs that also fit these shapes."""
        ...

    def measured(self, timed: Timed) -> float:
        """Return the cost of a measured shape."""
        ...


@dataclass(frozen=True)
class Observation:
    """An observation: an earlier trial's results, in the units of its base.

    Attributes:
        share: accuracy as a share of the base's; None if not fine-tuned.
        cost: as the allocator counts it.
        score: divergence of the outputs with corrected statistics; None if not measured.
        timed: its measured shape; None if its latency was not measured.
        base: place of its base in the study.
        effort: epochs and seconds; None if they were not recorded.
    """

    point: Point
    share: float | None
    cost: float
    score: float | None = None
    timed: Timed | None = None
    base: int = 0
    effort: Effort | None = None

    @property
    def is_promoted(self) -> bool:
        """True if it continues another trial: it says nothing about what a candidate's own fine-tune gives."""
        return self.effort is not None and self.effort.continues is not None


@dataclass(frozen=True)
class GoingOn:
    """What holds for trials that continue another.

    Attributes:
        barred: numbers of trials that may not go on: another continues them, or they break a constraint.
        left_s: seconds that are left of the search; None without a limit.
    """

    barred: Set[int] = frozenset()
    left_s: float | None = None

    def within(self, most_s: float | None) -> float | None:
        """Return the seconds that one may take, if a trial may take `most_s`; None without a limit."""
        return min((limit for limit in (self.left_s, most_s) if limit is not None), default=None)


@dataclass(frozen=True)
class Advice:
    """A candidate, its origin, and its screening threshold."""

    candidate: Candidate
    source: str
    screening: ScreeningLimit | None = None


@dataclass(frozen=True)
class Bid:
    """A point that a guide would try next, with its cost and the accuracy that one sample of the prices expects.

    Both are shares of the guide's own base.
    """

    point: Point
    cost: float
    share: float


class Adviser(Protocol):
    """The proposer of `auto`: a `Guide`, or the guides of several bases."""

    @property
    def gain(self) -> AccuracyGoal:
        """The accuracy to preserve."""
        ...

    def told(
        self,
        candidate: Candidate,
        figures: Mapping[str, float],
        score: float | None,
        screened: bool,
        effort: Effort | None = None,
    ) -> Observation:
        """Convert a trial to an observation."""
        ...

    def estimated(self, told: Sequence[Observation], candidate: Candidate, score: float) -> float:
        """Estimate the accuracy of a screened candidate."""
        ...

    def opening(self) -> tuple[Candidate, ...]:
        """Return the initial candidates."""
        ...

    def advise(self, number: int, told: Sequence[Observation], going_on: GoingOn | None = None) -> Advice:
        """Return the candidate for trial `number`, which continues another only if `going_on` is given."""
        ...


Aim = float | LimitedBudget
"""What a trial is for besides the front: a cost, or a budget with other limits."""


@dataclass(frozen=True)
class Guide:
    """Proposes candidates from observations. The n-th depends only on the seed, n and the observations.

    Args:
        gain: the accuracy to preserve.
        variants: the input sizes and precisions of the space, the study's own first.
        targets: costs of the study's named budgets and constraints, as shares of the base's.
        limits: its budgets and constraints with other limits, such as parameters, by their place in the study; None
            where the base meets it unpruned, or cannot.
        base_ms: latency of the base; None if latency is not part of the study.
        relearning: refits costs to trials; None: costs are fixed.
        promotes: trains networks of the front further where that is worth more (promotion.py).
        most_s: seconds that the study allows a trial.
    """

    allocator: Allocator
    gain: AccuracyGoal
    variants: tuple[Variant, ...]
    targets: tuple[float, ...] = ()
    seed: int = 0
    base_ms: float | None = None
    relearning: CostRefitter | None = None
    limits: tuple[LimitedBudget | None, ...] = ()
    promotes: bool = False
    most_s: float | None = None
    _known: dict[Vector, Floats] = field(default_factory=dict, compare=False, repr=False)
    _learned: dict[int, Allocator] = field(default_factory=dict, compare=False, repr=False)

    def told(
        self,
        candidate: Candidate,
        figures: Mapping[str, float],
        score: float | None,
        screened: bool,
        effort: Effort | None = None,
    ) -> Observation:
        """Convert a trial to an observation."""
        name = self.gain.name
        share = None if screened or name not in figures else self.gain.share(figures[name])
        point = Point(self.allocator.vector(candidate), self._variant(candidate))
        timed = None if screened else self._timed(point.vector, figures.get("latency_ms"))
        cost = self._cost(point) if timed is None or self.relearning is None else self.relearning.measured(timed)
        return Observation(point, share, cost, score, timed, effort=effort)

    def _timed(self, vector: Vector, milliseconds: float | None) -> Timed | None:
        if milliseconds is None or self.base_ms is None:
            return None
        return Timed(tuple(self.allocator.widths(vector).tolist()), vector.removed, milliseconds / self.base_ms)

    def estimated(self, told: Sequence[Observation], candidate: Candidate, score: float) -> float:
        """Estimate the accuracy of a screened candidate, calibrated on the trials that have both figures."""
        return self.gain.value(expected_share(observed_pairs(told), score) * self._variant(candidate).share)

    @property
    def own_limits(self) -> tuple[LimitedBudget, ...]:
        """The limits that this base has to meet."""
        return tuple(limit for limit in self.limits if limit is not None)

    def opening(self) -> tuple[Candidate, ...]:
        """Return the ladder at the study's own size; then other sizes and precisions unpruned.

        The rung nearest to the base comes first: it has little to repair, so there is a point within seconds. Then
        come the named budgets.
        """
        budgets = (*self.targets, *(rung for rung in RUNGS if all(abs(rung - t) > 0.04 for t in self.targets)))
        nearest = max(budgets)
        own, *others = self.variants
        named = [self._filling(self.allocator, limit, {}, own) for limit in self.own_limits]
        first, *rungs = (self.allocator.vector_within(budget, {}) for budget in (nearest, *budgets))
        found = dict.fromkeys(Point(vector, own) for vector in (first, *named, *rungs))
        whole = [Point(self.allocator.whole, other) for other in others]
        return tuple(map(self._candidate, (*found, *whole)))

    def advise(self, number: int, told: Sequence[Observation], going_on: GoingOn | None = None) -> Advice:
        """Return the candidate for trial `number`, which continues another only if `going_on` is given."""
        guide, told = self.corrected(told)
        aims: tuple[Aim, ...] = (*self.targets, *self.own_limits)
        aim = aims[number // 2 % len(aims)] if aims and number % 2 == 0 else None
        if self.promotes and going_on is not None and not isinstance(aim, LimitedBudget):
            tried = [Tuned(one.cost, one.share, one.effort) for one in told]
            further = promotion(tried, going_on.barred, PromotionAim(aim), going_on.within(self.most_s))
            if further is not None:
                return Advice(further, PROMOTED)
        bid = guide.bid(number, aim, told, front_of(told))
        return guide.advice(bid, aim, told, front_of(own_fine_tunes(told)))

    def corrected(self, told: Sequence[Observation]) -> tuple[Guide, Sequence[Observation]]:
        """Return the guide with costs and variants as the trials have measured them, and the trials as it sees them."""
        guide = replace(self._relearned(told), variants=self._tried(told))
        if guide.variants != self.variants:
            told = [replace(one, point=guide._renewed(one.point)) for one in told]
        return guide, told

    def _tried(self, told: Sequence[Observation]) -> tuple[Variant, ...]:
        """Return the variants, with measured figures of the unpruned model in each that the initial trials covered."""
        whole = self.allocator.whole
        found = {
            one.point.variant: replace(one.point.variant, share=one.share, cost=one.cost)
            for one in told
            if one.point.vector == whole and one.share is not None and not one.is_promoted
        }
        own, *others = self.variants
        return own, *(found.get(variant, variant) for variant in others)

    def _renewed(self, point: Point) -> Point:
        same = (v for v in self.variants if (v.imgsz, v.precision) == (point.variant.imgsz, point.variant.precision))
        return replace(point, variant=next(same))

    def _relearned(self, told: Sequence[Observation]) -> Guide:
        """Return the guide under costs refitted to the trials at the study's own size and precision.

        Refitted at 1, 2, 3, 4, 6, 8, 12, ... of them.
        """
        own = self.variants[0]
        timed = [
            one.timed for one in told if one.timed is not None and one.point.variant == own and not one.is_promoted
        ]
        count = max((m for m in _milestones() if m <= len(timed)), default=0)
        if self.relearning is None or not count:
            return self
        if count not in self._learned:
            self._learned.clear()
            costs = self.relearning.costs(timed[:count][-_TIMED:])
            self._learned[count] = replace(self.allocator, cost_of=costs, _paths={})
        return replace(self, allocator=self._learned[count], _known=self._known)

    def bid(self, number: int, aim: Aim | None, told: Sequence[Observation], front: Front, worst: float = WORST) -> Bid:
        """Return the point to try as trial `number`, mostly one that was not tried.

        Args:
            aim: None: it is to add hypervolume to the `front`, within costs below `worst`.
        """
        random = np.random.default_rng([self.seed, number, 2])
        seen = {one.point for one in told}
        found = self._sampled(aim, told, seen, random, SHAKE, front, worst)
        for more in range(1, _TRIES):
            if found.point not in seen:
                break
            found = self._sampled(aim, told, seen, random, SHAKE * (1 + more), front, worst)
        return found

    def advice(self, bid: Bid, aim: Aim | None, told: Sequence[Observation], front: Front) -> Advice:
        """Return the candidate of a bid, with its screening threshold: what it may miss the `front` by."""
        point, source = bid.point, "guided:front" if aim is None else "guided:budget"
        if isinstance(
            aim, LimitedBudget
        ):  # the front is one of cost: it says nothing of who is best within other limits
            return Advice(self._candidate(point), source)
        pairs, whole = observed_pairs(told), max(point.variant.share, 1e-9)
        own = own_fine_tunes(told)  # more training than its own is no measure of a candidate
        held_back = next((n for n, one in enumerate(reversed(own)) if one.share is not None), len(own))
        reached = [(cost, share / whole) for cost, share in front]
        return Advice(self._candidate(point), source, screening_limit(pairs, reached, self._cost(point), held_back))

    def forecasts(self, told: Sequence[Observation]) -> list[Bid]:
        """Return the ladder in every variant with the accuracies expected at most: those of the fitted prices, twice
        the spread of the fit above them."""
        surrogate = self._fitted(_with_estimates(own_fine_tunes(told)), None)
        stage = dict(zip(self.allocator.stages, _relative(surrogate.coefficients), strict=True))
        slack = float(np.exp(2 * surrogate.residual))
        points = [Point(vector, v) for v in self.variants for vector in dict.fromkeys(self.allocator.path(stage))]
        expected = [(point, self._expected(point, surrogate)) for point in points]
        return [
            Bid(point, self._cost(point), min(share * slack, max(share, point.variant.share)))
            for point, share in expected
        ]

    def _sampled(
        self,
        aim: Aim | None,
        told: Sequence[Observation],
        seen: Set[Point],
        random: np.random.Generator,
        shake: float,
        front: Front,
        worst: float,
    ) -> Bid:
        surrogate = self._fitted(_with_estimates(own_fine_tunes(told)), random)
        stage = dict(zip(self.allocator.stages, _relative(surrogate.coefficients), strict=True))
        shaken = self.allocator.shaken(shake, random)
        if aim is not None:
            points = self._aimed(shaken, aim, stage)
            bids = [Bid(point, self._cost(point), self._expected(point, surrogate)) for point in points]
            return max(bids, key=lambda bid: bid.share)
        path = dict.fromkeys(shaken.path(stage))
        points = [Point(vector, variant) for variant in self.variants for vector in path]
        new = [point for point in points if point not in seen]
        bids = [Bid(point, self._cost(point), self._expected(point, surrogate)) for point in new or points]
        gains = [added_volume(front, bid.cost, bid.share, worst) for bid in bids]
        return bids[int(np.argmax(gains))]

    def _aimed(self, allocator: Allocator, aim: Aim, weights: Mapping[str, float]) -> list[Point]:
        """Return the points that fill a budget, one per variant."""
        if isinstance(aim, float):
            return [Point(allocator.vector_within(aim / v.cost, weights), v) for v in self.variants]
        return [Point(self._filling(allocator, aim, weights, v), v) for v in self.variants]

    def _filling(
        self, allocator: Allocator, limit: LimitedBudget, weights: Mapping[str, float], variant: Variant
    ) -> Vector:
        work = area(variant.imgsz) / area(self.variants[0].imgsz)
        limited = limit.over(allocator.cost_of, variant.cost, work)
        return replace(allocator, cost_of=limited, _paths={}).vector_within(1.0, weights)

    def _fitted(self, tuned: Sequence[Observation], random: np.random.Generator | None) -> Surrogate:
        rows = np.array([self._prices(one.point.vector) for one in tuned]).reshape(-1, len(self.allocator.stages))
        shares = [one.share / max(one.point.variant.share, 1e-9) for one in tuned if one.share is not None]
        return fit_surrogate(rows, shares, random)

    def _expected(self, point: Point, surrogate: Surrogate) -> float:
        """Return the expected accuracy as a share of the base's."""
        return point.variant.share * float(surrogate.share(self._prices(point.vector)[None])[0])

    def _prices(self, vector: Vector) -> Floats:
        if vector not in self._known:
            paid = self.allocator.prices_by_stage(vector)
            self._known[vector] = np.array([paid[stage] for stage in self.allocator.stages])
        return self._known[vector]

    def _cost(self, point: Point) -> float:
        return self.allocator.cost(point.vector) * point.variant.cost

    def _candidate(self, point: Point) -> Candidate:
        candidate = self.allocator.candidate(point.vector)
        return replace(candidate, imgsz=point.variant.imgsz, precision=point.variant.precision)

    def _variant(self, candidate: Candidate) -> Variant:
        same = (v for v in self.variants if (v.imgsz, v.precision) == (candidate.imgsz, candidate.precision))
        return next(same, self.variants[0])


def own_fine_tunes(told: Sequence[Observation]) -> list[Observation]:
    """Return the trials that continue no other."""
    return [one for one in told if not one.is_promoted]


def _milestones() -> Iterator[int]:
    """Yield 1, 2, 3, 4, 6, 8, 12, 16, ...: powers of two and the midpoints between them."""
    yield 1
    for power in range(1, 20):
        yield 2**power
        yield 3 * 2 ** (power - 1)


def _relative(coefficients: Floats) -> list[float]:
    """Normalise coefficients to weights of mean 1; stages that seem free keep a tenth."""
    mean = max(float(coefficients.mean()), 1e-12)
    return [max(float(c) / mean, 0.1) for c in coefficients]


def observed_pairs(told: Sequence[Observation]) -> tuple[tuple[float, float], ...]:
    """Return (score, share of the unpruned accuracy in that variant) of the last trials that have both."""
    found = [
        (one.score, one.share / max(one.point.variant.share, 1e-9))
        for one in told
        if one.score is not None and one.share is not None
    ]
    return tuple(found[-_MOST:])


def _with_estimates(told: Sequence[Observation]) -> list[Observation]:
    """Return the last observations; screened ones get the accuracy that their score predicts."""
    known = [one for one in told if one.share is not None or one.score is not None][-_MOST:]
    screened = [(number, one) for number, one in enumerate(known) if one.share is None]
    shares = expected_shares(observed_pairs(told), [one.score for _, one in screened if one.score is not None])
    for (number, one), share in zip(screened, shares, strict=True):
        known[number] = replace(one, share=share * one.point.variant.share)
    return known


def front_of(told: Sequence[Observation]) -> Front:
    """Return (cost, share) of the non-dominated fine-tuned trials, by rising cost."""
    return undominated([(one.cost, one.share) for one in told if one.share is not None])
