"""Trials in processes on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait

from search.evaluate.evaluator import Evaluator
from search.run_folder.crash_points import reached
from search.run_folder.record import write_outcome
from search.trial import Failure, FailureKind, Measurement, Outcome
from search.workers.child_process import PRELOAD, Child
from search.workers.clock import Clock, SystemClock
from search.workers.engine import Finished, Job
from search.workers.heartbeat import Pulse


@dataclass(frozen=True)
class _Running:
    job: Job
    child: Child
    started: float
    pulse: Pulse


class LocalEngine:
    """Up to `workers` trials at once, each in a fresh process; see `child_process`."""

    def __init__(
        self,
        evaluator: Evaluator,
        workers: int = 1,
        *,
        preload: Sequence[str] = PRELOAD,
        clock: Clock | None = None,
    ) -> None:
        self._evaluator = evaluator
        self._workers = workers
        self._preload = tuple(preload)
        self._clock = clock or SystemClock()
        self._running: dict[int, _Running] = {}

    @property
    def workers(self) -> int:
        return self._workers

    def submit(self, job: Job) -> None:
        child = Child(
            run_job,
            (self._evaluator, job),
            log=job.work_dir / "train.log",
            error_path=job.work_dir / "error.txt",
            preload=self._preload,
        )
        now = self._clock.now()
        self._running[job.number] = _Running(job, child, now, Pulse(job.work_dir, now))

    def poll(self, wait_s: float) -> tuple[Finished, ...]:
        wait([item for running in self._running.values() for item in running.child.waitables], wait_s)
        ended = [(running, self._ended(running)) for running in list(self._running.values())]
        finished = [Finished(running.job.number, outcome) for running, outcome in ended if outcome is not None]
        for one in finished:
            del self._running[one.number]
        return tuple(finished)

    def cancel(self) -> None:
        while self._running:
            self._running.popitem()[1].child.kill()

    def _ended(self, running: _Running) -> Outcome | None:
        answer = running.child.result()
        if answer is not None:
            outcome: Outcome = answer[1]
            return outcome
        failure = self._overdue(running)
        if failure is not None:
            running.child.dump_stacks()
            running.child.kill()
        return failure

    def _overdue(self, running: _Running) -> Failure | None:
        """Return why a trial is given up, if so; the stacks of its threads are then dumped to train.log."""
        job, now = running.job, self._clock.now()
        if now - running.started > job.timeout_s:
            minutes = job.timeout_s / 60
            return Failure(FailureKind.TIMEOUT, f"not finished after {minutes:.3g} minutes (search.trial_minutes)")
        if running.pulse.silent_s(now) > job.stuck_s:
            where = f"for {job.stuck_s / 60:.3g} minutes (search.stuck_minutes); its stack is in train.log"
            return Failure(FailureKind.STUCK, f"no sign of life {where}")
        return None


def run_job(evaluator: Evaluator, job: Job) -> Measurement:
    """Evaluate one job in the trial's process and save its result.json."""
    reached("worker.begun")
    measured = evaluator.evaluate(job.candidate, job.number, job.seed, job.work_dir, job.gate)
    reached("worker.measured")
    write_outcome(job.work_dir, measured)
    reached("worker.written")
    return measured
