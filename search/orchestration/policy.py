"""The study's search policy: disk space, ownership of the study, time to reserve, plateau detection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.config.spec import StudySpec
from search.orchestration.final_steps import seconds_of
from search.orchestration.stopping import is_flat
from search.prepare.prepared import Prepared
from search.results.results import Results
from search.run_folder.disk import DiskSpace


@dataclass(frozen=True)
class StudyPolicy:
    """The `SearchPolicy` of a study.

    Attributes:
        results: returns the run's results as of the last ended trial.
        claim: verifies that this process still owns the study.
    """

    spec: StudySpec
    prepared: Prepared
    room: DiskSpace
    results: Callable[[], Results]
    claim: Callable[[], None]

    def pause_reason(self) -> str | None:
        """Return why the disk has no room for a trial, or None."""
        return self.room.missing()

    def renew_claim(self) -> None:
        """Verify the ownership; raises as `SearchPolicy.renew_claim`."""
        self.claim()

    def reserve_s(self, usual_s: float) -> float:
        """Estimate the seconds of the last steps; 0 without a time limit."""
        has_time_limit = self.spec.search.hours is not None or self.spec.search.until is not None
        return seconds_of(self.results(), self.prepared, usual_s) if has_time_limit else 0.0

    def is_flat(self, counted: Sequence[int]) -> bool:
        """Return whether the hypervolume has stopped growing (`stopping.is_flat`)."""
        patience = self.spec.search.patience
        return patience is not None and is_flat(self.results().hypervolume, counted, patience)
