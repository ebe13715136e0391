"""The interface between the loop and the execution of trials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from search.trial import Candidate, Gate, Outcome


@dataclass(frozen=True)
class Job:
    """One trial to run. `work_dir` exists and holds candidate.json; `gate` is its screening threshold.

    It is given up after `timeout_s` in all, and after `stuck_s` without a heartbeat.
    """

    number: int
    candidate: Candidate
    seed: int
    work_dir: Path
    timeout_s: float
    gate: Gate | None = None
    stuck_s: float = float("inf")


@dataclass(frozen=True)
class Finished:
    """The end of a job."""

    number: int
    outcome: Outcome


class Engine(Protocol):
    """Runs up to `workers` jobs at once. A successful job has saved its result.json before it is reported."""

    @property
    def workers(self) -> int:
        """Largest number of concurrent jobs."""
        ...

    def submit(self, job: Job) -> None:
        """Start a job; callers never exceed `workers`."""
        ...

    def poll(self, wait_s: float) -> tuple[Finished, ...]:
        """Return jobs that ended, each reported once; wait up to `wait_s` for the first."""
        ...

    def cancel(self) -> None:
        """Drop every running job at once, without reporting it. Idempotent."""
        ...
