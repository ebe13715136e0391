"""The interface between the loop and the source of candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from search.run_folder.enqueue import Request
from search.trial import Candidate, Outcome, ScreeningLimit, Trial


@dataclass(frozen=True)
class Proposal:
    """A numbered candidate. `source` names its origin: opening, tpe, user, ...

    `screening` is its screening threshold; None: it is always fine-tuned.
    """

    number: int
    candidate: Candidate
    source: str
    screening: ScreeningLimit | None = None


@dataclass(frozen=True)
class Told:
    """What the proposer was told of a trial, to compare with what lies on disk.

    Attributes:
        figures: name -> value; empty if the trial failed.
        error: the message of the failure; None if it was measured.
        same_as: number of the trial whose measurement it copies.
    """

    LACKS_A_FIGURE: ClassVar = "figure missing"
    """Error of a trial that was measured, but not in all objectives."""

    candidate: Candidate
    figures: Mapping[str, float]
    error: str | None = None
    same_as: int | None = None


@dataclass(frozen=True)
class History:
    """A proposer's record of earlier sessions.

    Attributes:
        pending: proposed but not told; to be evaluated again under the same number.
        told: the told trials, by number.
    """

    pending: tuple[Proposal, ...]
    told: Mapping[int, Told]


class Proposer(Protocol):
    """Proposes candidates and receives their outcomes.

    Numbers count from 0 without gaps. The n-th candidate depends only on the study (space, seed, sampler) and on the
    trials told before it was asked for: a proposer reopened on the same storage continues unchanged.
    """

    def history(self) -> History:
        """Return the trials of earlier sessions."""
        ...

    def adopt(self, trials: Sequence[Trial]) -> None:
        """Take over trials that the storage has lost.

        Args:
            trials: all of the study, numbered from 0 without gaps; those without an outcome are pending afterwards.
        """
        ...

    def ask(self, left_s: float | None = None) -> Proposal:
        """Return the next candidate, under the next number.

        Args:
            left_s: seconds that are left of the search; None without a limit. One that usually takes longer is not
                proposed; that is the only thing besides the trials that a candidate depends on.
        """
        ...

    def enqueue(self, request: Request) -> None:
        """Propose this candidate before any other; repeating a request's name changes nothing.

        Raises:
            ConfigError: the candidate is not in the space.
        """
        ...

    def tell(self, number: int, outcome: Outcome, same_as: int | None = None) -> None:
        """Report how trial `number` ended; repeating it changes nothing."""
        ...

    def close(self) -> None:
        """Release files and connections; the proposer must not be used afterwards."""
        ...
