"""Jobs in processes of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Generic

from search.trial import Failure, FailureKind
from search.workers.child_process import PRELOAD, Child
from search.workers.clock import Clock, SystemClock
from search.workers.engine import Finished, Job, T
from search.workers.heartbeat import ActivityMonitor


@dataclass(frozen=True)
class _Running(Generic[T]):
    job: Job[T]
    child: Child
    started: float
    activity: ActivityMonitor


class LocalEngine(Generic[T]):
    """Up to `workers` jobs at once, each in a fresh process; see `child_process`."""

    def __init__(self, workers: int = 1, *, preload: Sequence[str] = PRELOAD, clock: Clock | None = None) -> None:
        self._workers = workers
        self._preload = tuple(preload)
        self._clock = clock or SystemClock()
        self._running: dict[int, _Running[T]] = {}

    @property
    def workers(self) -> int:
        return self._workers

    def submit(self, job: Job[T]) -> None:
        child = Child(
            job.work,
            (job.work_dir,),
            log=job.work_dir / "train.log",
            error_path=job.work_dir / "error.txt",
            preload=self._preload,
        )
        now = self._clock.now()
        self._running[job.number] = _Running(job, child, now, ActivityMonitor(job.work_dir, now))

    def poll(self, wait_s: float) -> tuple[Finished[T], ...]:
        wait([item for running in self._running.values() for item in running.child.waitables], wait_s)
        asked = [self._ended(running) for running in self._running.values()]
        finished = tuple(one for one in asked if one is not None)
        for one in finished:
            del self._running[one.number]
        return finished

    def cancel(self) -> None:
        while self._running:
            self._running.popitem()[1].child.kill()

    def _ended(self, running: _Running[T]) -> Finished[T] | None:
        answer = running.child.result()
        if answer is not None:
            return Finished(running.job.number, answer[1])
        failure = self._overdue(running)
        if failure is None:
            return None
        running.child.dump_stacks()
        running.child.kill()
        return Finished(running.job.number, failure)

    def _overdue(self, running: _Running[T]) -> Failure | None:
        """Why it is time to give a job up; where each of its threads stands is then written to train.log."""
        job, now = running.job, self._clock.now()
        if now - running.started > job.timeout_s:
            minutes = job.timeout_s / 60
            return Failure(FailureKind.TIMEOUT, f"not finished after {minutes:.3g} minutes (search.trial_minutes)")
        if running.activity.silent_s(now) > job.stuck_s:
            stopped = "its process was stopped by a signal (SIGSTOP, or a debugger)"
            where = stopped if running.child.is_stopped else "its stack is in train.log"
            silence = f"no sign of life for {job.stuck_s / 60:.3g} minutes (search.stuck_minutes)"
            return Failure(FailureKind.STUCK, f"{silence}; {where}")
        return None
