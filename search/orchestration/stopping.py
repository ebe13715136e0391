"""When a search ends: after its trials, its hours, at a time of day, or when the front no longer grows.

Two of the limits are promises about the clock, and they include what comes after the last trial (`final_steps.py`): no
trial is begun that, as far as trials went so far, would not leave time for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from search.config.sections import clock_time
from search.results.schema import VolumePoint

GROWTH = 0.001
"""Share by which the hypervolume must have grown within `patience` trials for the search to go on."""
MOST_RESERVED = 0.5
"""Share of the time that the last steps are given at most; however much was asked of them, half is for the search."""


class Reason(StrEnum):
    """Which limit ended the search."""

    TRIALS = "trials"
    HOURS = "hours"
    UNTIL = "until"
    FLAT = "flat"


@dataclass(frozen=True)
class Limits:
    """When to end. `trials` counts those that were fine-tuned or failed; `hours` the whole run, earlier sessions
    included; `until` is the local time, without a zone, at which this session is to be over; `patience` counts trials.
    `stuck_s`: seconds without a sign of life after which a trial is given up.
    """

    trials: int
    hours: float | None = None
    trial_minutes: float | None = None
    until: datetime | None = None
    patience: int | None = None
    stuck_s: float = float("inf")


@dataclass(frozen=True)
class End:
    """Why a search ended, for the machine and for the reader."""

    reason: Reason
    sentence: str

    def to_json(self) -> dict[str, Any]:
        return {"reason": self.reason.value, "sentence": self.sentence}


@dataclass(frozen=True)
class Standpoint:
    """Where a search stands when it asks whether to go on.

    Attributes:
        counted: trials that use up the limit, running ones included.
        spent_s: seconds of the whole run; `now`: local time, `begun`: that of the session's start.
        next_s: what a trial usually takes; `reserve_s`: what the last steps will take.
        flat: the front has stopped growing (`is_flat`).
    """

    counted: int
    spent_s: float
    now: datetime
    begun: datetime
    next_s: float = 0.0
    reserve_s: float = 0.0
    flat: bool = False


def reached(limits: Limits, here: Standpoint) -> End | None:
    """The limit that is reached; None while there is time for another trial."""
    if here.counted >= limits.trials:
        return End(Reason.TRIALS, f"all {limits.trials} trials are done")
    if limits.hours is not None and _is_over(limits.hours * 3600, here.spent_s, here):
        return End(Reason.HOURS, f"the {limits.hours:g} hours are used up")
    if limits.until is not None:
        allowed = (limits.until - here.begun).total_seconds()
        if _is_over(allowed, (here.now - here.begun).total_seconds(), here):
            return End(Reason.UNTIL, f"it is to be over at {limits.until:%H:%M}")
    if here.flat:
        return End(Reason.FLAT, f"the front has not grown for {limits.patience} trials")
    return None


def _is_over(allowed_s: float, spent_s: float, here: Standpoint) -> bool:
    left = allowed_s - min(here.reserve_s, MOST_RESERVED * allowed_s) - spent_s
    return left <= 0 or here.next_s > left


def seconds_left(limits: Limits, here: Standpoint) -> float | None:
    """To the nearer of the two limits of time; None where there is none."""
    found = []
    if limits.hours is not None:
        found.append(limits.hours * 3600 - here.spent_s)
    if limits.until is not None:
        found.append((limits.until - here.now).total_seconds())
    return max(min(found), 0.0) if found else None


def next_time(text: str, now: datetime) -> datetime:
    """The next moment at which local clocks show `text` (07:00): today or tomorrow, never `now` itself.

    Without a time zone on purpose: whoever says seven means what the clock on the wall will show, also in the night in
    which it is put forward.
    """
    hours, minutes = clock_time(text)
    today = now.replace(hour=hours, minute=minutes, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)


def is_flat(volumes: Sequence[VolumePoint], counted: Sequence[int], patience: int | None) -> bool:
    """Whether the last `patience` trials together made the hypervolume grow by less than a share of `GROWTH`.

    Together and not one by one: many small steps are progress.

    Args:
        volumes: [{"trial", "value"}] by number, of the trials that can be chosen from.
        counted: numbers of all trials that cost something, those that failed or broke a constraint included.
    """
    if patience is None or len(counted) <= patience:
        return False
    first = sorted(counted)[-patience]
    before = [row["value"] for row in volumes if row["trial"] < first]
    if not before or before[-1] <= 0:
        return False
    return volumes[-1]["value"] < before[-1] * (1 + GROWTH)
