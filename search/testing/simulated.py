"""A simulated clock, an engine that evaluates in the calling process, and power cuts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from search.evaluate.evaluator import Evaluator
from search.workers.child_process import classify
from search.workers.engine import Finished, Job
from search.workers.local import run_job


@dataclass
class SimulatedClock:
    """A clock that only `advance` moves, from `begin` on."""

    seconds: float = 0.0
    begin: datetime = datetime(2025, 3, 1, 22, 0)

    def now(self) -> float:
        return self.seconds

    def local(self) -> datetime:
        return self.begin + timedelta(seconds=self.seconds)

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.seconds += seconds


@dataclass
class InlineEngine:
    """Evaluates in the calling process, at `poll`, advancing a simulated clock by each trial's reported duration.

    Args:
        cut_at: raises `Cut` instead of evaluating this trial, like a power cut.
    """

    evaluator: Evaluator
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    workers: int = 1
    cut_at: int | None = None
    _jobs: list[Job] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def poll(self, wait_s: float) -> tuple[Finished, ...]:
        if not self._jobs:
            return ()
        job = self._jobs.pop(0)
        if job.number == self.cut_at:
            raise Cut(f"at trial {job.number}")
        try:
            measured = run_job(self.evaluator, job)
        except Exception as error:
            return (Finished(job.number, classify(error)),)
        self.clock.advance(sum(measured.seconds.values()))
        return (Finished(job.number, measured),)

    def cancel(self) -> None:
        self._jobs.clear()


class Cut(BaseException):
    """A simulated power cut; code under test must not catch it."""
