"""Failure policy: retry failures that may be accidental, abort a search that cannot succeed.

A process that was killed, crashed, ran out of memory or got stuck may have suffered from other processes: the trial is
retried once, under its number. An exception or a NaN would recur, so it is not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from search.errors import SearchFailing
from search.trial import FailureKind, Trial, TrialState

RETRIED = frozenset({FailureKind.SIGNAL, FailureKind.CRASH, FailureKind.OUT_OF_MEMORY, FailureKind.STUCK})
FIRST = 5
"""So many trials that all failed are enough, whatever the reasons."""
RECENT, MOST = 10, 6
"""Of the last RECENT trials, so many that failed for one reason end the search."""
_VARYING = re.compile(r"0x[0-9a-f]+|\d+(\.\d+)?")


def give_up_if_hopeless(known: Iterable[Trial], ended: Sequence[Trial], trials_dir: Path) -> None:
    """Abort a search that cannot succeed.

    Args:
        known: all trials of the run; `ended`: those of this session, in the order in which they ended, since a resumed
            session may follow a repair.

    Raises:
        SearchFailing: every trial failed, or most recent ones for the same reason.
    """
    trials = list(known)
    failed = [trial for trial in trials if trial.state == TrialState.FAILED]
    if len(failed) >= FIRST and len(failed) == len(trials):
        what = f"the first {len(failed)} trials all failed; the last: {failed[-1].error}"
        raise _hopeless(what, failed[-1], trials_dir)
    recent = [trial for trial in ended[-RECENT:] if trial.state == TrialState.FAILED]
    counted = Counter(map(reason, recent)).most_common(1)
    if not counted or counted[0][1] < MOST:
        return
    last = [trial for trial in recent if reason(trial) == counted[0][0]][-1]
    seen = min(len(ended), RECENT)
    what = f"{counted[0][1]} of the last {seen} trials failed for the same reason: {last.error}"
    raise _hopeless(what, last, trials_dir)


def fail_if_nothing_succeeded(known: Iterable[Trial], trials_dir: Path) -> None:
    """Refuse to call a search done in which every trial failed, however few there were.

    Raises:
        SearchFailing: names the first failure.
    """
    trials = sorted(known, key=lambda trial: trial.number)
    if not trials or any(trial.state != TrialState.FAILED for trial in trials):
        return
    count, first = len(trials), trials[0]
    said = "the only trial" if count == 1 else f"all {count} trials"
    more = f"search.trials={count + FIRST}"
    raise SearchFailing(
        f"{said} failed; the first: {first.error}",
        where=str(_error_file(first, trials_dir)),
        expected="trials that succeed",
        next_command=f"read that file, then paretoprune check; paretoprune resume {trials_dir.parent} {more} continues",
    )


def reason(trial: Trial) -> str:
    """Return the failure's text without numbers and addresses, which differ between failures of one kind."""
    return _VARYING.sub("#", trial.error or "")


def _hopeless(what: str, trial: Trial, trials_dir: Path) -> SearchFailing:
    return SearchFailing(
        what,
        where=str(_error_file(trial, trials_dir)),
        expected="trials that succeed",
        next_command=f"read that file, then paretoprune check; paretoprune resume {trials_dir.parent} continues",
    )


def _error_file(trial: Trial, trials_dir: Path) -> Path:
    return trials_dir / f"{trial.number:04d}" / "error.txt"
