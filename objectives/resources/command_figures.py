"""Figures that a user's own program measures beside latency."""

from __future__ import annotations

import math
from collections.abc import Sequence

from objectives.latency.intervals import mean_interval, median_interval
from objectives.objective import Estimate
from objectives.runtimes.command_runner import Reading

RELATIVE = ("e2e_ms", "energy_mj")
"""Figures that drift with the board as latencies do, and are compared with the base's in the same way."""


def further_figure(name: str, candidate: Sequence[Reading], base: Sequence[Reading]) -> Estimate | None:
    """Return a further figure of a candidate, with its 95 % interval; None if some call did not say it.

    Of `RELATIVE` ones it is the ratio to the base's: the median over the candidate's calls, each against the geometric
    mean of the base's last call before and first one after it. Others are themselves, the mean of all calls.
    """
    if not candidate or not all(name in one.figures for one in (*candidate, *(base if name in RELATIVE else ()))):
        return None
    if name not in RELATIVE:
        return mean_interval([one.figures[name] for one in candidate])
    ratios = [one.figures[name] / _beside(name, one.at, base) for one in candidate]
    return median_interval(ratios) if all(0 < ratio < math.inf for ratio in ratios) else None


def _beside(name: str, at: float, base: Sequence[Reading]) -> float:
    """Return the base's figure at a time: of its calls around it, or of the nearest where there is one side only."""
    before, after = [one for one in base if one.at <= at], [one for one in base if one.at > at]
    around = [one.figures[name] for one in (*before[-1:], *after[:1])]
    return math.prod(around) ** (1 / len(around)) if all(value > 0 for value in around) else math.nan
