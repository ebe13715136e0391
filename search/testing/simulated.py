"""Time that passes only when told, an engine that works in the calling process, and power cuts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic

from search.trial import Measurement
from search.workers.child_process import classify
from search.workers.engine import Finished, Job, T


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
class InlineEngine(Generic[T]):
    """Works in the calling process, at `poll`, advancing a simulated clock by what each measurement says it took.

    Args:
        cut_at: raises `Cut` instead of running the job of this number, as if the power had gone.
    """

    clock: SimulatedClock = field(default_factory=SimulatedClock)
    workers: int = 1
    cut_at: int | None = None
    _jobs: list[Job[T]] = field(default_factory=list)

    def submit(self, job: Job[T]) -> None:
        self._jobs.append(job)

    def poll(self, wait_s: float) -> tuple[Finished[T], ...]:
        if not self._jobs:
            return ()
        job = self._jobs.pop(0)
        if job.number == self.cut_at:
            raise Cut(f"at trial {job.number}")
        try:
            result = job.work(job.work_dir)
        except Exception as error:
            return (Finished(job.number, classify(error)),)
        if isinstance(result, Measurement):
            self.clock.advance(sum(result.seconds.values()))
        return (Finished(job.number, result),)

    def cancel(self) -> None:
        self._jobs.clear()


class Cut(BaseException):
    """A simulated power cut; code under test must not catch it."""
