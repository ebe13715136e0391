"""Promotion: train a network of the front further, where that promises more than a new candidate.

A short fine-tune tells candidates apart; what lost much deserves more of it. Who deserves it is known only afterwards,
so epochs are given in steps: a member of the front is trained on for as many epochs as it has had, and may be promoted
again (successive halving: Jamieson and Talwalkar, AISTATS 2016, arXiv 1502.07943; for several objectives: Schmucker et
al., arXiv 2106.12639).

What a promotion is worth is predicted: what a network still loses falls with a power of its epochs,

    loss(r n) = loss(n) r^-b

(power laws of learning curves: Hestness et al., arXiv 1712.00409), with b corrected by the promotions of the study.
What a new candidate is worth is taken from the last ones: the mean of what they added to the front in a second. The
larger rate wins, so promotions come by themselves when new candidates stop paying.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from search.propose.front_area import WORST, added_volume, undominated
from search.trial import Candidate, Promotion

PROMOTED = "promoted"
"""Source of such a candidate."""
POWER = 0.4
"""b before any promotion: the median of docs/recovery.md between 1 and 10 epochs, over what lost more than a point."""
BELIEF = 2.0
"""How many promotions this is worth."""
_STEEPEST = 2.0
LEAST_LOSS = 0.01
"""Share of the base's accuracy: what lost less has nothing to gain that is larger than the error of the accuracy."""
RECENT = 6
"""New candidates whose worth is that of the next one."""
LONGEST = 8.0
"""Times as long as a new candidate usually takes that a promotion may take: time-outs and limits count on that."""


@dataclass(frozen=True)
class Effort:
    """What a trial has cost.

    Attributes:
        candidate: exactly as it was proposed.
        epochs: of its fine-tune, with those of the trials that it continues; None if unknown.
        seconds: of this trial alone.
    """

    trial: int
    candidate: Candidate
    epochs: float | None
    seconds: float

    @property
    def continues(self) -> int | None:
        """Number of the trial that it continues."""
        promotion = self.candidate.promotion
        return None if promotion is None else promotion.trial

    @property
    def own_epochs(self) -> float:
        """Epochs of this trial alone."""
        promotion = self.candidate.promotion
        return (self.epochs or 0.0) if promotion is None else promotion.epochs


@dataclass(frozen=True)
class Tuned:
    """A trial in the terms of the front: its cost, its accuracy as a share of the reference's, and its effort.

    Attributes:
        share: None of a screened one.
        effort: None of a copy, and where it was not recorded: it is on the front and cannot go on.
        whole: share of its own unpruned base, which it recovers towards.
    """

    cost: float
    share: float | None
    effort: Effort | None
    whole: float = 1.0

    @property
    def lost(self) -> float:
        """Share of its own base's accuracy that is lost, 0 to 1; 1 of a screened one."""
        return min(max(1 - (self.share or 0.0) / max(self.whole, 1e-9), 0.0), 1.0)


@dataclass(frozen=True)
class Aim:
    """What a point is worth: the area that it adds to the front, or the accuracy within a budget.

    Attributes:
        budget: a cost; None for the front.
        worst: costs above it add no area.
        free: (cost, share) of what is there without a trial, such as unpruned bases.
    """

    budget: float | None = None
    worst: float = WORST
    free: tuple[tuple[float, float], ...] = field(default=())

    def adds(self, points: Sequence[tuple[float, float]], cost: float, share: float) -> float:
        """Return what one more point adds to the others; 0 if nothing."""
        known = (*self.free, *points)
        if self.budget is None:
            return added_volume(undominated(known), cost, share, self.worst)
        best = max((other for price, other in known if price <= self.budget), default=0.0)
        return max(0.0, share - best) if cost <= self.budget else 0.0

    def is_near(self, one: Tuned) -> bool:
        """Return whether a trial could have added something."""
        return self.budget is None or one.cost <= self.budget


def promotion(tried: Sequence[Tuned], barred: Set[int], aim: Aim, most_s: float | None = None) -> Candidate | None:
    """Return the candidate that continues a trial if that promises more in a second than a new one; else None.

    Args:
        tried: the trials by number.
        barred: numbers of trials that may not go on: another continues them already, or they break a constraint.
        most_s: seconds that it may take at the most.
    """
    new = [place for place, one in enumerate(tried) if one.effort is not None and one.effort.continues is None]
    if len(new) < RECENT:
        return None
    points = [(one.cost, one.share) for one in tried if one.share is not None]
    best, power = set(undominated((*aim.free, *points))), _power(tried)
    limit_s = min(LONGEST * _usual_s(tried, new), math.inf if most_s is None else most_s)
    promised: list[tuple[float, Effort]] = []
    for one in tried:
        effort = one.effort
        if one.share is None or effort is None or (one.cost, one.share) not in best or not _may_go_on(one, barred):
            continue
        seconds = effort.seconds * (effort.epochs or 0.0) / effort.own_epochs
        if seconds <= limit_s:
            better = one.whole * (1 - one.lost * 2**-power)
            promised.append((aim.adds(points, one.cost, better) / max(seconds, 1e-9), effort))
    rate, chosen = max(promised, key=lambda found: found[0], default=(0.0, None))
    near = [place for place in new if aim.is_near(tried[place])]
    return None if chosen is None or rate <= _recent_rate(tried, near[-RECENT:], aim) else _continued(chosen)


def _may_go_on(one: Tuned, barred: Set[int]) -> bool:
    effort = one.effort
    if effort is None or not effort.epochs or not effort.own_epochs or effort.trial in barred:
        return False
    return LEAST_LOSS < one.lost < 1


def _continued(effort: Effort) -> Candidate:
    had = effort.epochs or 0.0
    return effort.candidate.promoted(Promotion(effort.trial, had, had))


def _usual_s(tried: Sequence[Tuned], places: Sequence[int]) -> float:
    """Return the median seconds of the fine-tuned trials at these places."""
    known = [one.effort.seconds for one in map(tried.__getitem__, places) if one.effort and one.share is not None]
    return statistics.median(known) if known else 0.0


def _recent_rate(tried: Sequence[Tuned], recent: Sequence[int], aim: Aim) -> float:
    """Return what the trials at these places added in a second to those before them."""
    gained = seconds = 0.0
    for place in recent:
        one = tried[place]
        seconds += 0.0 if one.effort is None else one.effort.seconds
        if one.share is not None:
            before = [(other.cost, other.share) for other in tried[:place] if other.share is not None]
            gained += aim.adds(before, one.cost, one.share)
    return gained / max(seconds, 1e-9)


def _power(tried: Sequence[Tuned]) -> float:
    """Return b, from the study's promotions and the belief."""
    by_number = {one.effort.trial: one for one in tried if one.effort is not None}
    found = []
    for one in tried:
        parent = None if one.effort is None or one.effort.continues is None else by_number.get(one.effort.continues)
        if parent is None or parent.effort is None or parent.share is None or one.effort is None or one.share is None:
            continue
        grown = (one.effort.epochs or 0.0) / (parent.effort.epochs or math.inf)
        if grown > 1:
            lost = max(parent.lost, 1e-3) / max(one.lost, 1e-3)
            found.append(min(max(math.log(lost) / math.log(grown), 0.0), _STEEPEST))
    return (BELIEF * POWER + sum(found)) / (BELIEF + len(found))
