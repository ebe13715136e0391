"""Screening: a cheap score decides which candidates are fine-tuned.

    rung 0   exact cost, predicted latency                       free
    rung 1   divergence of the outputs, statistics corrected      a few forward passes   (EagleEye, arXiv 2007.02491)
    rung 2   measured latency, short fine-tune, accuracy         a trial

A candidate is promoted from rung 1 to rung 2 if its divergence predicts that it may still reach the front at its cost,
judged by the trials that have both figures. The reliability of this prediction is measured on the study itself: the
rank correlation (Kendall's tau) between divergence and accuracy. The lower it is, the higher the threshold; below
`LOWEST` all candidates pass. Optuna cannot prune trials of several objectives, so promotion is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from objectives.objective import Objective
from search.trial import Measurement, ScreeningLimit

if TYPE_CHECKING:
    from sklearn.isotonic import IsotonicRegression

Pairs = Sequence[tuple[float, float]]
"""(divergence, share of the base's accuracy) of trials that have both."""


@dataclass(frozen=True)
class AccuracyGoal:
    """The quality metric to preserve, an accuracy or an error, as a share of the base's.

    An error's share is 1 minus its relative growth: 0.9 is an error that is larger than the base's by a tenth.
    """

    name: str
    base: float
    is_error: bool = False

    @classmethod
    def of(cls, objective: Objective, base: Measurement) -> AccuracyGoal:
        """Build from an objective and the base's measurement."""
        return cls(objective.name, base.figures[objective.name].value, objective.direction == "min")

    def share(self, value: float) -> float:
        """Return the value as a share of the base's, at least 0."""
        share = value / max(self.base, 1e-9)
        return max(0.0, 2.0 - share) if self.is_error else share

    def value(self, share: float) -> float:
        """Invert `share`."""
        return self.base * (2.0 - share if self.is_error else share)


FEWEST = 8
"""Below this many pairs nothing is held back."""
LOWEST = 0.4
"""Rank correlation below which the screening is open."""
HIGH = 0.8
SLACK = 0.015
"""Share of the base's accuracy that a candidate may be expected to miss the front by: less than that is noise."""


def correlation(pairs: Pairs) -> float | None:
    """Return Kendall's tau between low divergence and high accuracy: 1 is the same order. None for fewer than three."""
    if len(pairs) < 3:
        return None
    from scipy.stats import kendalltau  # a second of imports that only a study with a ladder pays

    tau = float(kendalltau([-score for score, _ in pairs], [share for _, share in pairs]).statistic)
    return tau if np.isfinite(tau) else None


def expected_share(pairs: Pairs, divergence: float) -> float:
    """Return the expected accuracy at a divergence as a share of the base's: isotonic through the pairs and (0, 1)."""
    return expected_shares(pairs, [divergence])[0]


def expected_shares(pairs: Pairs, divergences: Sequence[float]) -> list[float]:
    """Return `expected_share` of several divergences by one fit."""
    return [float(share) for share in _curve(pairs).predict(list(divergences))] if divergences else []


def screening_limit(pairs: Pairs, front: Pairs, cost: float, held_back: int = 0) -> ScreeningLimit | None:
    """Return the threshold for a candidate of a given cost; None while too few trials are known.

    Args:
        front: (cost, share) of the best trials, by rising cost.
        held_back: number of consecutive screened candidates: the threshold rises with it, until one passes.
    """
    tau = correlation(pairs)
    if len(pairs) < FEWEST or tau is None or tau < LOWEST:
        return None
    wanted = max((share for other, share in front if other <= cost), default=0.0)
    curve = _curve(pairs)
    scores, shares = np.array(pairs).T
    spread = float(np.std(shares - curve.predict(scores)))
    widths = 1.0 if tau >= HIGH else 1.0 + 2.0 * (HIGH - tau) / (HIGH - LOWEST)
    reach = np.geomspace(1e-4, 4.0 * max(score for score, _ in pairs), 400)
    enough = curve.predict(reach) + widths * spread + SLACK * (1 + held_back) >= wanted
    return ScreeningLimit(float(reach[enough][-1])) if enough.any() else ScreeningLimit(0.0)


def _curve(pairs: Pairs) -> IsotonicRegression:
    from sklearn.isotonic import IsotonicRegression  # with pandas: as long as torch

    x, y = [0.0, *(score for score, _ in pairs)], [1.0, *(share for _, share in pairs)]
    return IsotonicRegression(increasing=False, out_of_bounds="clip").fit(x, y)
