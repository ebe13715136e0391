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
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass

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
    """A trial in the terms of the front: its cost, its accuracy as a share of the base's, and its effort.

    `share` is None of a screened one.
    """

    cost: float
    share: float | None
    effort: Effort


Points = Sequence[tuple[float, float]]
"""(cost, accuracy as a share of the base's) of trials."""
Worth = Callable[[Points, float, float], float]
"""(points, cost, share) -> what one more point adds to them; 0 if it adds nothing."""


def promotion(tried: Sequence[Tuned], taken: Set[int], worth: Worth) -> Candidate | None:
    """Return the candidate that continues a trial if that promises more in a second than a new one; else None.

    Args:
        tried: the trials by number.
        taken: numbers of trials that another continues already.
    """
    new = [number for number, one in enumerate(tried) if one.effort.continues is None]
    if len(new) < RECENT or tried[-1].effort.continues is not None:  # never two in a row: the rate of new ones ages
        return None
    points = [(one.cost, one.share) for one in tried if one.share is not None]
    power, promised = _power(tried), list[tuple[float, Tuned]]()
    for one in tried:
        if one.share is None or not _may_go_on(one, taken):
            continue
        better = 1 - (1 - one.share) * 2**-power
        seconds = one.effort.seconds * (one.effort.epochs or 0.0) / one.effort.own_epochs
        promised.append((worth(points, one.cost, better) / max(seconds, 1e-9), one))
    rate, chosen = max(promised, key=lambda found: found[0], default=(0.0, None))
    if chosen is None or rate <= _recent_rate(tried, new[-RECENT:], worth):
        return None
    return _continued(chosen.effort)


def _may_go_on(one: Tuned, taken: Set[int]) -> bool:
    effort = one.effort
    had_some = bool(effort.epochs) and effort.own_epochs > 0
    return had_some and effort.trial not in taken and 1 - (one.share or 0.0) > LEAST_LOSS


def _continued(effort: Effort) -> Candidate:
    had = effort.epochs or 0.0
    return effort.candidate.promoted(Promotion(effort.trial, had, had))


def _recent_rate(tried: Sequence[Tuned], recent: Iterable[int], worth: Worth) -> float:
    """Return what the trials at these places added in a second to those before them."""
    gained = seconds = 0.0
    for place in recent:
        one = tried[place]
        seconds += one.effort.seconds
        if one.share is not None:
            before = [(other.cost, other.share) for other in tried[:place] if other.share is not None]
            gained += worth(before, one.cost, one.share)
    return gained / max(seconds, 1e-9)


def _power(tried: Sequence[Tuned]) -> float:
    """Return b, from the study's promotions and the belief."""
    by_number = {one.effort.trial: one for one in tried}
    found = []
    for one in tried:
        before = None if one.effort.continues is None else by_number.get(one.effort.continues)
        if before is None or before.share is None or one.share is None:
            continue
        grown = (one.effort.epochs or 0.0) / (before.effort.epochs or math.inf)
        if grown > 1:
            lost = max(1 - before.share, 1e-3) / max(1 - one.share, 1e-3)
            found.append(min(max(math.log(lost) / math.log(grown), 0.0), _STEEPEST))
    return (BELIEF * POWER + sum(found)) / (BELIEF + len(found))
