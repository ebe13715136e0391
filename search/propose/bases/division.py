"""Division of the trials between several bases, by what the guide of each expects to gain.

Each base has a guide of its own (guided.py), which counts costs and accuracies as shares of its own base. Here they are
compared as shares of the first base's.

    opening    the initial candidates of every base, in turn: no base can lose before it has had its own
    later      every guide bids: the point that it would try next, under one sample of what its trials teach. The bid
               that adds the most hypervolume to the joint front has the trial; of a trial for a budget, the bid that
               expects the highest accuracy within it. Acting on samples is Thompson sampling (surrogate.py), so a base
               that is uncertain still has trials.
    left       a base whose forecasts add nothing to the joint front, even if every one is as much better as the fit
               may err, has no further trials; were the others to turn out worse, it would come back.

The bases themselves, unpruned, cost no trial and are on the joint front from the beginning: a pruned large model has
to beat the small one as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from search.propose.front_area import WORST, Front, added_volume, undominated
from search.propose.guided import Advice, Aim, Bid, GoingOn, Guide, LimitedBudget, Observation, own_fine_tunes
from search.propose.initial_candidates import in_turn
from search.propose.promotion import PROMOTED, Effort, Tuned, promotion
from search.propose.promotion import Aim as PromotionAim
from search.propose.screening import AccuracyGoal
from search.trial import Candidate

LEAST = 1e-3
"""Share of the volume within the largest cost below which a forecast adds nothing."""
ENOUGH = 0.75
"""Share of its initial candidates that a base must have had before it can be left: one may have failed."""
_ALIKE = 0.02
"""Relative difference below which two targets are one: each base rounds its own."""
_OVER = 0.03
"""Share by which the smallest network of a base may miss a budget that it is still tried for."""


@dataclass(frozen=True)
class BaseGuide:
    """The guide of one base.

    Attributes:
        cost: of the base itself, as a share of the first base's.
    """

    guide: Guide
    cost: float = 1.0

    @cached_property
    def initial(self) -> tuple[Candidate, ...]:
        """Its initial candidates."""
        return self.guide.opening()

    def common(self, share: float, reference: AccuracyGoal) -> float:
        """Convert a share of this base's accuracy to one of the reference's."""
        return reference.share(self.guide.gain.value(share))

    def own(self, front: Front, reference: AccuracyGoal) -> Front:
        """Convert a front of the reference's shares to this base's."""
        return [(cost / self.cost, self.guide.gain.share(reference.value(share))) for cost, share in front]


@dataclass(frozen=True)
class GuideByBase:
    """The `Adviser` of a study of several bases, in the order of the study."""

    bases: tuple[BaseGuide, ...]

    @property
    def gain(self) -> AccuracyGoal:
        """The accuracy to preserve, as a share of the first base's."""
        return self.bases[0].guide.gain

    @property
    def worst(self) -> float:
        """The cost within which volume counts."""
        return WORST * max(one.cost for one in self.bases)

    def told(
        self,
        candidate: Candidate,
        figures: Mapping[str, float],
        score: float | None,
        screened: bool,
        effort: Effort | None = None,
    ) -> Observation:
        """Convert a trial to an observation, in the units of its base."""
        found = self.bases[candidate.base].guide.told(candidate, figures, score, screened, effort)
        return replace(found, base=candidate.base)

    def estimated(self, told: Sequence[Observation], candidate: Candidate, score: float) -> float:
        """Estimate the accuracy of a screened candidate from the trials of its base."""
        return self.bases[candidate.base].guide.estimated(_of(told, candidate.base), candidate, score)

    def opening(self) -> tuple[Candidate, ...]:
        """Return the initial candidates of all bases, in turn."""
        return in_turn([one.initial for one in self.bases])

    def advise(self, number: int, told: Sequence[Observation], going_on: GoingOn | None = None) -> Advice:
        """Return the candidate for trial `number`: a trial to go on with, or the base with the best bid."""
        front, open_ = self.front(told), self.open(told)
        aims = self._aims
        aim = aims[number // 2 % len(aims)] if aims and number % 2 == 0 else None
        first = self.bases[0].guide
        if first.promotes and going_on is not None and not isinstance(aim, int):
            worth = PromotionAim(aim, self.worst, self._free)
            further = promotion(self._tried(told), going_on.barred, worth, going_on.within(first.most_s))
            if further is not None:
                return Advice(further, PROMOTED)
        asked = [] if aim is None else self._for_budget(number, aim, told, front, open_)
        bids = asked or [self._for_front(number, told, front, base) for base in open_]
        return max(bids, key=lambda offer: offer.value).advice(self, told, self.front(own_fine_tunes(told)))

    def front(self, told: Sequence[Observation]) -> Front:
        """Return (cost, share) of the unpruned bases and of the trials that no other dominates."""
        points = list(self._free)
        for seen in told:
            if seen.share is not None:
                base = self.bases[seen.base]
                points.append((seen.cost * base.cost, base.common(seen.share, self.gain)))
        return undominated(points)

    @cached_property
    def _free(self) -> tuple[tuple[float, float], ...]:
        """(cost, share) of the unpruned bases."""
        return tuple((one.cost, one.common(1.0, self.gain)) for one in self.bases)

    def _tried(self, told: Sequence[Observation]) -> list[Tuned]:
        """Return the trials in the units of the first base."""
        found = []
        for seen in told:
            base, share = self.bases[seen.base], seen.share
            joint = None if share is None else base.common(share, self.gain)
            found.append(Tuned(seen.cost * base.cost, joint, seen.effort, base.common(1.0, self.gain)))
        return found

    def open(self, told: Sequence[Observation]) -> tuple[int, ...]:
        """Return the places of the bases that are not left; all where every one would be."""
        front = self.front(own_fine_tunes(told))  # forecasts are of candidates with a fine-tune of their own
        found = tuple(place for place in range(len(self.bases)) if not self._is_left(place, told, front))
        return found or tuple(range(len(self.bases)))

    def _is_left(self, place: int, told: Sequence[Observation], front: Front) -> bool:
        base, own = self.bases[place], _of(told, place)
        if (
            len(own) < ENOUGH * len(base.initial) or base.guide.own_limits
        ):  # the front is one of cost, and says nothing of others
            return False
        guide, seen = base.guide.corrected(own)
        return all(
            added_volume(front, bid.cost * base.cost, base.common(bid.share, self.gain), self.worst)
            < LEAST * self.worst
            for bid in guide.forecasts(seen)
        )

    @cached_property
    def _aims(self) -> tuple[float | int, ...]:
        """Return the costs of budgets as shares of the first base's, then the places of budgets with other limits."""
        found: list[float] = []
        for one in self.bases:
            for target in one.guide.targets:
                cost = target * one.cost
                if all(abs(np.log(cost / other)) > _ALIKE for other in found):
                    found.append(cost)
        limits = itertools.zip_longest(*(one.guide.limits for one in self.bases))
        return (*sorted(found), *(place for place, of_bases in enumerate(limits) if any(of_bases)))

    def _for_front(self, number: int, told: Sequence[Observation], front: Front, place: int) -> Offer:
        base = self.bases[place]
        guide, own = base.guide.corrected(_of(told, place))
        bid = guide.bid(number, None, own, base.own(front, self.gain), self.worst / base.cost)
        value = added_volume(front, bid.cost * base.cost, base.common(bid.share, self.gain), self.worst)
        return Offer(place, guide, bid, None, value)

    def _for_budget(
        self, number: int, aim: float | int, told: Sequence[Observation], front: Front, open_: Sequence[int]
    ) -> list[Offer]:
        """Return the bids for a budget that promise more than the bases within it have as they are."""
        found = []
        for place in open_:
            base = self.bases[place]
            own_aim = _own_aim(base, aim)
            if own_aim is None:
                continue
            guide, own = base.guide.corrected(_of(told, place))
            bid = guide.bid(number, own_aim, own, base.own(front, self.gain))
            offer = Offer(place, guide, bid, own_aim, base.common(bid.share, self.gain))
            if isinstance(own_aim, LimitedBudget) or self._is_worth(offer, float(aim)):
                found.append(offer)
        return found

    def _is_worth(self, offer: Offer, aim: float) -> bool:
        fits = offer.bid.cost * self.bases[offer.place].cost <= aim * (1 + _OVER)
        free = [one.common(1.0, self.gain) for one in self.bases if one.cost <= aim]
        return fits and offer.value > max(free, default=0.0)


@dataclass(frozen=True)
class Offer:
    """The bid of one base for a trial, and its worth in the units of the first base.

    Attributes:
        guide: of the base, as its trials have corrected it.
    """

    place: int
    guide: Guide
    bid: Bid
    aim: Aim | None
    value: float

    def advice(self, of: GuideByBase, told: Sequence[Observation], front: Front) -> Advice:
        """Return the candidate, screened by the joint front."""
        base = of.bases[self.place]
        _, own = base.guide.corrected(_of(told, self.place))
        found = self.guide.advice(self.bid, self.aim, own, base.own(front, of.gain))
        return replace(found, candidate=replace(found.candidate, base=self.place))


def _own_aim(base: BaseGuide, aim: float | int) -> Aim | None:
    """Return an aim in the units of a base; None where the base meets it unpruned, or has no such limit."""
    if isinstance(aim, int):
        return base.guide.limits[aim] if aim < len(base.guide.limits) else None
    return aim / base.cost if aim < base.cost else None


def _of(told: Sequence[Observation], place: int) -> list[Observation]:
    return [one for one in told if one.base == place]
