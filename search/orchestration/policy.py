"""How a search goes on beside its limits: room on the disk, the claim on the study, time to reserve, a flat front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.config.spec import StudySpec
from search.orchestration.final_steps import seconds_of
from search.orchestration.stopping import is_flat
from search.prepare.prepared import Prepared
from search.results.results import Results
from search.run_folder.disk import Room


@dataclass(frozen=True)
class StudyPolicy:
    """The `SearchPolicy` of a study.

    Attributes:
        results: gives what the run held when the last trial ended.
        claim: makes sure that the study is still this process's.
    """

    spec: StudySpec
    prepared: Prepared
    room: Room
    results: Callable[[], Results]
    claim: Callable[[], None]

    def pause_reason(self) -> str | None:
        """See `SearchPolicy.pause_reason`."""
        return self.room.missing()

    def renew_claim(self) -> None:
        """See `SearchPolicy.renew_claim`."""
        self.claim()

    def reserve_s(self, usual_s: float) -> float:
        """See `SearchPolicy.reserve_s`; nothing is reserved where no limit of time is set."""
        has_time_limit = self.spec.search.hours is not None or self.spec.search.until is not None
        return seconds_of(self.results(), self.prepared, usual_s) if has_time_limit else 0.0

    def is_flat(self, counted: Sequence[int]) -> bool:
        """See `SearchPolicy.is_flat`."""
        patience = self.spec.search.patience
        return patience is not None and is_flat(self.results().hypervolume, counted, patience)
