"""Ask, evaluate, record, tell.

The order of writing makes an interruption at any moment harmless:

    ask      study.db knows the number and its parameters (RUNNING)
    start    trials/N/candidate.json
    evaluate the worker leaves trials/N/result.json, whole
    tell     study.db knows the result

On resume a RUNNING trial with a result.json is told, and reported as one that ends in this session; one without is
evaluated again under the same number.
A result.json counts even if its worker died afterwards.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from search.errors import ConfigError, Interrupted, ServerMissing
from search.evaluate.evaluator import Evaluator, recorded
from search.evaluate.timing.progress import TrialProgress, read_progress
from search.orchestration.consistency import check_history
from search.orchestration.failure_policy import RETRIED, fail_if_nothing_succeeded, give_up_if_hopeless
from search.orchestration.memo import Memo
from search.orchestration.stopping import End, Limits, Reason, SearchState, seconds_left, trial_timeout_s
from search.orchestration.stopping import reached as limit_reached
from search.propose.proposer import History, Proposal, Proposer
from search.run_folder.crash_points import reached
from search.run_folder.disk import is_full
from search.run_folder.enqueue import Requests
from search.run_folder.record import RunRecord, acknowledged, finished_trial
from search.run_folder.storage_errors import rebuilding
from search.trial import Failure, FailureKind, Measurement, Outcome, Trial, TrialState
from search.workers.child_process import classify
from search.workers.clock import Clock, SystemClock
from search.workers.engine import Engine, Finished, Job

_POLL_S = 0.2
_PAUSE_S = 1.0
_SERVER_PATIENCE_S = 3600.0
_MEASURED = (TrialState.COMPLETE, TrialState.SCREENED)
_log = logging.getLogger("search")


@dataclass(frozen=True)
class Progress:
    """Progress of a search.

    Attributes:
        running: number -> (its progress, seconds since its start).
        latest: the trial that ended last, in this session.
        paused: why no trial is started now; None if not paused.
    """

    done: int
    failed: int
    total: int
    seconds: float
    eta_s: float | None
    running: Mapping[int, tuple[TrialProgress, float]]
    latest: Trial | None
    screened: int = 0
    paused: str | None = None


class SearchPolicy(Protocol):
    """Decisions about the search besides its limits."""

    def pause_reason(self) -> str | None:
        """Return why no trial can start now, such as a full disk; None if one can."""
        ...

    def renew_claim(self) -> None:
        """Verify that this process still owns the study: a restarted server forgets it.

        Raises:
            ServerMissing: the storage does not answer. RunLocked: another process has the study.
        """
        ...

    def reserve_s(self, usual_s: float) -> float:
        """Estimate the seconds of the steps after the last trial, if a trial usually takes `usual_s`."""
        ...

    def is_flat(self, counted: Sequence[int]) -> bool:
        """Return whether the front has stopped growing; `counted` are the numbers of the trials that count."""
        ...


Watcher = Callable[[Progress], None]
_Found = TypeVar("_Found")


@dataclass
class Loop:
    """One session of a search: from the state on disk to the limits, or to an interruption.

    Args:
        seed: of the study; each trial's own seed is derived from it and the number.
        on_start: called when a trial is about to be measured; `on_trial` when it has ended and is recorded; `watch`
            several times a second.
        sleep: waits during a pause.
        note: called with a sentence about the run.
        is_own_storage: the storage is the run's own study.db, which is rebuilt from the trials on disk if it is empty.
    """

    proposer: Proposer
    engine: Engine[Measurement]
    evaluator: Evaluator
    record: RunRecord
    limits: Limits
    policy: SearchPolicy
    seed: int = 0
    clock: Clock = field(default_factory=SystemClock)
    on_start: Callable[[Trial], None] = lambda trial: None
    on_trial: Callable[[Trial], None] = lambda trial: None
    watch: Watcher = lambda progress: None
    sleep: Callable[[float], None] = time.sleep
    note: Callable[[str], None] = lambda text: None
    is_own_storage: bool = True

    def __post_init__(self) -> None:
        self.trials: dict[int, Trial] = {}
        self._memo = Memo()
        self._keys: dict[int, str] = {}
        self._proposals: dict[int, Proposal] = {}
        self._started: dict[int, float] = {}
        self._again: deque[Proposal] = deque()
        self._latest: Trial | None = None
        self._ended: list[Trial] = []
        self._unreported: list[Trial] = []
        self._paused: str | None = None
        self._judged: tuple[int, float, bool] | None = None
        self._interrupted = False
        self.end: End | None = None

    @property
    def interrupted(self) -> bool:
        """True after `interrupt` was called."""
        return self._interrupted

    def interrupt(self) -> None:
        """Ask the loop to end: running trials are dropped and rerun on resume. Safe in a signal handler."""
        self._interrupted = True

    def run(self) -> None:
        """Search until a limit is reached; `end` says which.

        Raises:
            Interrupted: `interrupt` was called or a stop was requested.
            SearchFailing: no trial succeeded, or most recent ones failed for one reason.
            RunCorrupt: study.db and the trial folders contradict each other.
        """
        self.restore()
        self._report_restored()
        try:
            while self._step():
                self.watch(self.progress())
        finally:
            self.engine.cancel()
            self._started.clear()
        fail_if_nothing_succeeded(self.trials.values(), self.record.path / "trials")

    def restore(self) -> None:
        """Load the earlier sessions' trials without evaluating further ones; `run` does so itself."""
        self.policy.renew_claim()
        self._origin = self.record.origin()
        self._restore()
        self._begin, self._begun = self.clock.now(), self.clock.local()
        self._before = sum(trial.seconds_total for trial in self.trials.values()) / self.engine.workers

    def progress(self) -> Progress:
        """Return the current progress."""
        now = self.clock.now()
        running = {
            number: (read_progress(self.record.trial_dir(number)), now - start)
            for number, start in self._started.items()
        }
        failed = self._count(TrialState.FAILED)
        done, screened = self._count(TrialState.COMPLETE), self._count(TrialState.SCREENED)
        eta, latest = self._eta(running), self._latest
        return Progress(done, failed, self.limits.trials, self._spent(), eta, running, latest, screened, self._paused)

    def _count(self, state: TrialState) -> int:
        return sum(trial.state == state for trial in self.trials.values())

    @property
    def counted(self) -> tuple[int, ...]:
        """Numbers of the trials that count: all but copies and screened ones."""
        return tuple(t.number for t in self.trials.values() if t.same_as is None and t.state != TrialState.SCREENED)

    @property
    def continued(self) -> frozenset[int]:
        """Numbers of the trials that running or waiting ones continue, so that their weights are needed."""
        open_ones = (*self._proposals.values(), *self._again)
        given = (one.candidate.promotion for one in open_ones)
        return frozenset(one.trial for one in given if one is not None and one.trial is not None)

    def _counted(self) -> int:
        """Number of trials that count towards the limit; screened ones cost next to nothing."""
        return len(self.trials) - self._count(TrialState.SCREENED)

    def _restore(self) -> None:
        """Continue from disk: tell measured trials that were not told, queue proposed ones that were not measured."""
        history, known = self.proposer.history(), self.record.trials()
        if known and self.is_own_storage and not history.told and not history.pending:
            history = self._rebuilt(known)
        self.trials = {t.number: t for t in known if t.state != TrialState.STOPPED}
        check_history(history, self.trials, self.record.path)
        for proposal in history.pending:
            trial = self.trials.get(proposal.number)
            outcome = None if trial is None else trial.outcome
            if trial is None or outcome is None:
                self._again.append(proposal)
            else:
                self.proposer.tell(proposal.number, outcome, trial.same_as)
                self._unreported.append(trial)
        for number in sorted(self.trials):
            self._remember(self.trials[number])

    def _report_restored(self) -> None:
        """Report the trials that `restore` told, one after the other: the session that measured them did not."""
        unreported, self._unreported = sorted(self._unreported, key=lambda trial: trial.number), []
        for trial in unreported:
            del self.trials[trial.number]
        for trial in unreported:
            self.on_start(Trial(trial.number, TrialState.RUNNING, trial.candidate, source=trial.source))
            self.trials[trial.number] = self._latest = trial
            self.on_trial(trial)

    def _rebuilt(self, trials: Sequence[Trial]) -> History:
        """Tell an empty study.db what the trial folders hold; return the history, empty where a folder is missing."""
        if [trial.number for trial in trials] == list(range(len(trials))):
            with rebuilding(self.record.study_db):
                self.proposer.adopt(trials)
            done = sum(trial.outcome is not None for trial in trials)
            made_of = f"{done} result.json and {len(trials)} candidate.json"
            self.note(f"study.db was damaged or missing: rebuilt from {made_of}")
        return self.proposer.history()

    def _step(self) -> bool:
        """Fill the engine, wait a little, process finished trials. False when nothing is left to do."""
        self.raise_if_stopped()
        while len(self._started) < self.engine.workers and self._wants_more() and self._has_room():
            self._take_requests()
            self._submit(self._again.popleft() if self._again else self._ask())
            self.raise_if_stopped()
        if not self._started:
            return self._waits_for_room()
        for finished in self.engine.poll(_POLL_S):
            self._take(finished)
        return True

    def _has_room(self) -> bool:
        said = self.policy.pause_reason()
        if said is not None and self._paused is None:
            _log.warning("paused: %s", said)
        if said is None and self._paused is not None:
            _log.info("resumed: disk space and storage are available again")
        self._paused = said
        return said is None

    def _waits_for_room(self) -> bool:
        """Sleep a moment and return True while a pause keeps the search from starting a trial that it still wants."""
        if self._paused is None or not self._wants_more():
            return False
        self.sleep(_PAUSE_S)
        return True

    def _retry(self, write: Callable[[], _Found]) -> _Found:
        """Retry an idempotent write while disk or storage is unavailable; give up after one hour."""
        away_since: float | None = None
        while True:
            try:
                self.policy.renew_claim()
                return write()
            except ServerMissing as error:
                away_since = self.clock.now() if away_since is None else away_since
                if self.clock.now() - away_since > _SERVER_PATIENCE_S:
                    raise
                self._pause(error.what)
            except OSError as error:
                if not is_full(error):
                    raise
                self._pause(f"no room on the disk: {error}")
            self.watch(self.progress())
            self.sleep(_PAUSE_S)
            self.raise_if_stopped()

    def _pause(self, why: str) -> None:
        if self._paused is None:
            _log.warning("paused: %s", why)
        self._paused = why

    def _ask(self) -> Proposal:
        """Return the next proposal, resuming an interrupted ask first."""

        here = self._standpoint()
        left_s = seconds_left(self.limits, here)
        left_s = None if left_s is None else max(left_s - here.reserve_s, 0.0)

        def ask() -> Proposal:
            held = self._proposals.keys() | {proposal.number for proposal in self._again}
            left = self.proposer.history().pending if self._paused is not None else ()
            return next((one for one in left if one.number not in held), None) or self.proposer.ask(left_s)

        proposal = self._retry(ask)
        reached("asked")
        return proposal

    def _take_requests(self) -> None:
        """Enqueue the users' requests in study.db before the next ask."""
        requests = Requests(self.record.path)
        for request in requests:
            try:
                self._retry(partial(self.proposer.enqueue, request))
            except ConfigError as error:
                _log.warning("request %s: %s", request.name, error)
            requests.done([request])

    def raise_if_stopped(self) -> None:
        """Raise Interrupted if a stop was requested."""
        if self._interrupted or self.record.stop_path.exists():
            self.record.stop_path.unlink(missing_ok=True)
            done = self._counted()
            raise Interrupted(
                f"stopped after {done} of {self.limits.trials} trials",
                next_command=f"paretoprune resume {self.record.path}",
            )

    def _wants_more(self) -> bool:
        """Return whether to start another trial; proposed ones are finished unless the time is up."""
        self.end = limit_reached(self.limits, self._standpoint())
        return self.end is None or (bool(self._again) and self.end.reason in (Reason.TRIALS, Reason.FLAT))

    def _standpoint(self) -> SearchState:
        reserve_s, is_flat = self._judgement()
        return SearchState(
            counted=self._counted() + len(self._started),
            spent_s=self._spent(),
            now=self.clock.local(),
            begun=self._begun,
            next_s=self.usual_s(),
            reserve_s=reserve_s,
            flat=is_flat,
        )

    def _judgement(self) -> tuple[float, bool]:
        """Return (seconds to reserve, whether the front is flat); computed once after each trial."""
        ended = len(self.trials)
        if self._judged is None or self._judged[0] != ended:
            self._judged = ended, self.policy.reserve_s(self.usual_s()), self.policy.is_flat(self.counted)
        return self._judged[1:]

    def _submit(self, proposal: Proposal) -> None:
        number, candidate = proposal.number, proposal.candidate
        work_dir = self._retry(lambda: self.record.start_trial(number, candidate, proposal.source))
        reached("started")
        self._proposals[number] = proposal
        self.on_start(Trial(number, TrialState.RUNNING, candidate, source=proposal.source))
        try:
            key = self.evaluator.pruned(candidate).key
        except Exception as error:
            self._end(number, classify(error))
            return
        self._keys[number] = key
        first = self._memo.find(key)
        if first is not None:
            self._end(number, self.trials[first].measured, same_as=first)
            return
        _log.info("trial %d starts (%s)", number, proposal.source)
        self._started[number] = self.clock.now()
        seed = trial_seed(self.seed, number)
        measure = partial(self.evaluator.evaluate, candidate, number, seed, screening=proposal.screening)
        work = partial(recorded, measure, origin=self._origin.of(candidate))
        self.engine.submit(Job(number, work, work_dir, self.timeout_s(), self.limits.stuck_s))
        reached("submitted")

    def _take(self, finished: Finished[Measurement]) -> None:
        reached("ended")
        self._started.pop(finished.number)
        outcome = finished.outcome
        if isinstance(outcome, Failure):
            outcome = acknowledged(self.record.trial_dir(finished.number)) or outcome
        if not isinstance(outcome, Failure) or not self._tries_again(finished.number, outcome):
            self._end(finished.number, outcome)

    def _tries_again(self, number: int, failure: Failure) -> bool:
        """Retry a trial once if the failure may be accidental, or the disk was full or failing during it."""
        is_bad_luck = failure.kind in RETRIED or failure.kind == FailureKind.DISK
        if not is_bad_luck or self.record.was_retried(number):
            return False
        text = f"{failure.kind.value}: {failure.message}"
        _log.warning("trial %d runs once more: %s", number, text)
        self._retry(lambda: self.record.note_retry(number, text))
        self._again.appendleft(self._proposals.pop(number))
        return True

    def _end(self, number: int, outcome: Outcome, same_as: int | None = None) -> None:
        """Record, then tell; `_restore` completes an interruption in between."""
        proposal = self._proposals.pop(number)
        trial = finished_trial(number, proposal.candidate, proposal.source, outcome, same_as)
        unwritten = trial.state == TrialState.FAILED or same_as is not None
        if unwritten or acknowledged(self.record.trial_dir(number)) is None:
            origin = self._origin.of(proposal.candidate)
            self._retry(lambda: self.record.write_outcome(number, outcome, same_as, origin))
        reached("recorded")
        self._retry(lambda: self.proposer.tell(number, outcome, same_as))
        reached("told")
        self.trials[number] = trial
        self._remember(trial)
        self._latest = trial
        self._ended.append(trial)
        _log.info("trial %d %s%s", number, trial.state.value, f": {trial.error}" if trial.error else "")
        self.on_trial(trial)
        give_up_if_hopeless(self.trials.values(), self._ended, self.record.path / "trials")

    def _remember(self, trial: Trial) -> None:
        if trial.state in _MEASURED and trial.same_as is None:
            key = self._keys.pop(trial.number, None) or self.evaluator.pruned(trial.candidate).key
            self._memo.add(key, trial.number)

    def _spent(self) -> float:
        """Return the seconds of this session and of the trials of earlier ones."""
        return self._before + self.clock.now() - self._begin

    def _measured_seconds(self) -> list[float]:
        return [trial.seconds_total for trial in self.trials.values() if trial.seconds_total > 0]

    def usual_s(self) -> float:
        """Median seconds of a trial with its fine-tune; 0 before the first."""
        tuned = (trial for trial in self.trials.values() if trial.state == TrialState.COMPLETE)
        known = [trial.seconds_total for trial in tuned if trial.seconds_total > 0]
        return statistics.median(known) if known else 0.0

    def timeout_s(self) -> float:
        """Time-out of a trial in seconds (`stopping.trial_timeout_s`)."""
        return trial_timeout_s(self.trials.values(), self.limits.trial_minutes)

    def _eta(self, running: Mapping[int, tuple[TrialProgress, float]]) -> float | None:
        """Estimate the seconds to the end from the mean trial, copies included; None if unknown."""
        mean = self._mean_seconds(running)
        if mean is None:
            return None
        left = max(self.limits.trials - self._counted(), 0)
        begun = sum(min(seconds, mean) for _, seconds in running.values())
        eta = max(mean * left - begun, 0.0) / self.engine.workers
        left_s = seconds_left(self.limits, self._standpoint())
        return eta if left_s is None else min(eta, left_s)

    def _mean_seconds(self, running: Mapping[int, tuple[TrialProgress, float]]) -> float | None:
        """Return the mean seconds of ended trials; before the first, the running ones' own predictions."""
        if self.trials:
            return sum(self._measured_seconds()) / max(self._counted(), 1)
        said = [one.expected_s for one, _ in running.values() if one.expected_s is not None]
        return statistics.fmean(said) if said else None


def trial_seed(seed: int, number: int) -> int:
    """Derive the seed of one trial's training, below 2**31, from the study's seed and the number."""
    return int(np.random.SeedSequence([seed, number, 1]).generate_state(1)[0]) >> 1
