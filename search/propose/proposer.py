"""The interface between the loop and the source of candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from search.run_folder.enqueue import Request
from search.trial import Candidate, Outcome, ScreeningLimit


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
class History:
    """A proposer's record of earlier sessions.

    Attributes:
        pending: proposed but not told; to be evaluated again under the same number.
        told: numbers of the told trials.
    """

    pending: tuple[Proposal, ...]
    told: frozenset[int]


class Proposer(Protocol):
    """Proposes candidates and receives their outcomes.

    Numbers count from 0 without gaps. The n-th candidate depends only on the study (space, seed, sampler) and on the
    trials told before it was asked for: a proposer reopened on the same storage continues unchanged.
    """

    def history(self) -> History:
        """Return the trials of earlier sessions."""
        ...

    def ask(self) -> Proposal:
        """Return the next candidate, under the next number."""
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
