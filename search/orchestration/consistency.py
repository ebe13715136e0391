"""Consistency of study.db and the trial folders, value by value: where they differ, neither is believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from search.errors import RunCorrupt
from search.propose.proposer import History, Told
from search.trial import Candidate, Trial, TrialState

_MOST_NAMED = 5


def check_history(history: History, trials: Mapping[int, Trial], run: Path) -> None:
    """Compare what the proposer was told, and what it is to be told, with the trials on disk.

    Args:
        trials: those with a result, by number.

    Raises:
        RunCorrupt: a result is missing, is of no trial of the study, or says something else; names the trials.
    """
    pending = {proposal.number: proposal.candidate for proposal in history.pending}
    missing = sorted(history.told.keys() - trials.keys())
    unknown = sorted(trials.keys() - history.told.keys() - pending.keys())
    if missing:
        raise _contradiction(f"trials {missing} are in study.db but have no result.json", run)
    if unknown:
        raise _contradiction(f"trials {unknown} have a result.json but are not in study.db", run)
    faults = [f"trial {number}: {fault}" for number in sorted(trials) for fault in _faults(number, history, trials)]
    if faults:
        more = f"; and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
        raise _contradiction(f"study.db and trials/ differ: {'; '.join(faults[:_MOST_NAMED])}{more}", run)


def _faults(number: int, history: History, trials: Mapping[int, Trial]) -> Iterator[str]:
    told, trial = history.told.get(number), trials[number]
    if told is not None:
        yield from _candidates(told.candidate, trial.candidate)
        yield from _outcomes(told, trial)
        return
    for proposal in history.pending:
        if proposal.number == number:
            yield from _candidates(proposal.candidate, trial.candidate)


def _candidates(told: Candidate, found: Candidate) -> Iterator[str]:
    if told == found:
        return
    for name in dict.fromkeys([*told.ratios, *found.ratios]):
        if told.ratios.get(name) != found.ratios.get(name):
            yield _differ(f"ratio of {name}", told.ratios.get(name), found.ratios.get(name), "candidate.json")
    for name in ("imgsz", "precision", "removed", "base", "promotion"):
        if getattr(told, name) != getattr(found, name):
            yield _differ(name, getattr(told, name), getattr(found, name), "candidate.json")


def _outcomes(told: Told, trial: Trial) -> Iterator[str]:
    """Compare state, figures, error and the trial that is copied."""
    if told.error is not None:
        is_same = trial.failure is not None and trial.failure.message == told.error
        if not is_same and told.error != Told.LACKS_A_FIGURE:
            yield _differ("error", told.error, trial.error or trial.state.value, "result.json")
        return
    if trial.state == TrialState.FAILED:
        yield _differ("state", "measured", "failed", "result.json")
        return
    found = {name: estimate.value for name, estimate in trial.figures.items()}
    for name in dict.fromkeys([*told.figures, *found]):
        if told.figures.get(name) != found.get(name):
            yield _differ(name, told.figures.get(name), found.get(name), "result.json")
    if told.same_as != trial.same_as:
        yield _differ("same_as", told.same_as, trial.same_as, "result.json")


def _differ(name: str, told: object, found: object, file: str) -> str:
    before, now = ("nothing" if value is None else str(value).split("\n")[0] for value in (told, found))
    return f"{name} is {before} in study.db, {now} in {file}"


def _contradiction(what: str, run: Path) -> RunCorrupt:
    return RunCorrupt(
        what,
        where=str(run),
        expected="study.db and trials/ of the same run",
        next_command="restore the missing part from a copy, or start a new run with name=NEW_NAME",
    )
