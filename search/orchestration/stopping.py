"""Stopping rules: number of trials, hours, deadline, or a front that no longer grows.

The two time limits include the steps after the last trial (`final_steps.py`): no trial is started that is predicted to
leave too little time for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from search.config.sections import clock_time
from search.results.schema import VolumePoint
from search.trial import Trial, TrialState

GROWTH = 0.001
"""Share by which the hypervolume must have grown within `patience` trials for the search to go on."""
MOST_RESERVED = 0.5
"""Share of the time that the last steps are given at most; however much was asked of them, half is for the search."""
_MIN_TIMEOUT_S = 600.0
_TIMEOUT_FACTOR = 10.0


class Reason(StrEnum):
    """The limit that ended the search."""

    TRIALS = "trials"
    HOURS = "hours"
    UNTIL = "until"
    FLAT = "flat"


@dataclass(frozen=True)
class Limits:
    """Limits of a search. `trials` counts fine-tuned or failed ones; `hours` the whole run, earlier sessions included;
    `until` is the session's deadline in local time, without a zone; `patience` counts trials. `stuck_s`: seconds
    without a heartbeat after which a trial is given up.
    """

    trials: int
    hours: float | None = None
    trial_minutes: float | None = None
    until: datetime | None = None
    patience: int | None = None
    stuck_s: float = float("inf")


@dataclass(frozen=True)
class End:
    """Why a search ended, as an enum and as a sentence."""

    reason: Reason
    sentence: str

    def to_json(self) -> dict[str, Any]:
        return {"reason": self.reason.value, "sentence": self.sentence}


@dataclass(frozen=True)
class SearchState:
    """State of a search when its limits are checked.

    Attributes:
        counted: trials that count towards the limit, including running ones.
        spent_s: seconds of the whole run; `now`: local time, `begun`: the session's start.
        next_s: usual duration of a trial; `reserve_s`: predicted duration of the last steps.
        flat: the front has stopped growing (`is_flat`).
    """

    counted: int
    spent_s: float
    now: datetime
    begun: datetime
    next_s: float = 0.0
    reserve_s: float = 0.0
    flat: bool = False


def reached(limits: Limits, here: SearchState) -> End | None:
    """Return the limit that is reached; None while there is time for another trial."""
    if here.counted >= limits.trials:
        return End(Reason.TRIALS, f"all {limits.trials} trials are done")
    if limits.hours is not None and _is_over(limits.hours * 3600, here.spent_s, here):
        return End(Reason.HOURS, f"the {limits.hours:g} hours are used up")
    if limits.until is not None:
        allowed = (limits.until - here.begun).total_seconds()
        if _is_over(allowed, (here.now - here.begun).total_seconds(), here):
            return End(Reason.UNTIL, f"deadline {limits.until:%H:%M} reached (search.until)")
    if here.flat:
        return End(Reason.FLAT, f"the front has not grown for {limits.patience} trials")
    return None


def _is_over(allowed_s: float, spent_s: float, here: SearchState) -> bool:
    left = allowed_s - min(here.reserve_s, MOST_RESERVED * allowed_s) - spent_s
    return left <= 0 or here.next_s > left


def seconds_left(limits: Limits, here: SearchState) -> float | None:
    """Return the seconds to the nearer of the two time limits; None without any."""
    found = []
    if limits.hours is not None:
        found.append(limits.hours * 3600 - here.spent_s)
    if limits.until is not None:
        found.append((limits.until - here.now).total_seconds())
    return max(min(found), 0.0) if found else None


def trial_timeout_s(trials: Iterable[Trial], trial_minutes: float | None) -> float:
    """Return the time-out of a trial in seconds: the study's, else ten times the longest that was completed.

    Not the median: by need one trial is fine-tuned for many epochs and another for none. At least ten minutes, and no
    limit before three trials are complete.
    """
    if trial_minutes is not None:
        return trial_minutes * 60
    known = [trial.seconds_total for trial in trials if trial.state == TrialState.COMPLETE]
    return max(_MIN_TIMEOUT_S, _TIMEOUT_FACTOR * max(known)) if len(known) >= 3 else float("inf")


def next_time(text: str, now: datetime) -> datetime:
    """Return the next moment at which local clocks show `text` (07:00): today or tomorrow, never `now` itself.

    Without a time zone on purpose: the deadline is wall-clock time, also across a change to daylight saving time.
    """
    hours, minutes = clock_time(text)
    today = now.replace(hour=hours, minute=minutes, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)


def is_flat(volumes: Sequence[VolumePoint], counted: Sequence[int], patience: int | None) -> bool:
    """Return whether the last `patience` trials together increased the hypervolume by less than the share `GROWTH`.

    Together and not one by one: many small steps are progress.

    Args:
        volumes: [{"trial", "value"}] by number, of feasible trials.
        counted: numbers of all trials that count, including failed and infeasible ones.
    """
    if patience is None or len(counted) <= patience:
        return False
    first = sorted(counted)[-patience]
    before = [row["value"] for row in volumes if row["trial"] < first]
    if not before or before[-1] <= 0:
        return False
    return volumes[-1]["value"] < before[-1] * (1 + GROWTH)
