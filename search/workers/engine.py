"""The seam between the loop and the place where trials run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from search.trial import Candidate, Gate, Outcome


@dataclass(frozen=True)
class Job:
    """One trial to run. `work_dir` exists and holds candidate.json; `gate` is what it must pass to be fine-tuned.

    It is given up after `timeout_s` in all, and after `stuck_s` without a sign of life.
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
    """How a job ended."""

    number: int
    outcome: Outcome


class Engine(Protocol):
    """Runs up to `workers` jobs at once. A job that succeeds has left its result.json before it is reported."""

    @property
    def workers(self) -> int:
        """Most jobs at once."""
        ...

    def submit(self, job: Job) -> None:
        """Start a job; there are never more than `workers`."""
        ...

    def poll(self, wait_s: float) -> tuple[Finished, ...]:
        """Jobs that ended, each reported once; waits up to `wait_s` for the first."""
        ...

    def cancel(self) -> None:
        """Drop every running job at once; none of them is reported. Idempotent."""
        ...
