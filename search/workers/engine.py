"""The seam between a search and the place where its jobs run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from search.trial import Failure

T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[T]):
    """One piece of work: a trial, a baseline, a final measurement.

    Attributes:
        work: takes `work_dir`, in which it may write, and returns the result; raises to fail the job. Picklable.
        work_dir: exists.
        timeout_s: seconds after which the job is given up; `stuck_s`: seconds without a heartbeat.
    """

    number: int
    work: Callable[[Path], T]
    work_dir: Path
    timeout_s: float
    stuck_s: float = float("inf")


@dataclass(frozen=True)
class Finished(Generic[T]):
    """How a job ended: with what its work returned, or not."""

    number: int
    outcome: T | Failure


class Engine(Protocol[T]):
    """Runs up to `workers` jobs at once. What a job has left in its folder is there before the job is reported."""

    @property
    def workers(self) -> int:
        """Largest number of concurrent jobs."""
        ...

    def submit(self, job: Job[T]) -> None:
        """Start a job; there are never more than `workers`."""
        ...

    def poll(self, wait_s: float) -> tuple[Finished[T], ...]:
        """Jobs that ended, each reported once; waits up to `wait_s` for the first."""
        ...

    def cancel(self) -> None:
        """Drop every running job at once, without reporting it. Idempotent."""
        ...
