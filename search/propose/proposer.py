"""The seam between the loop and whatever invents candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from search.run_folder.enqueue import Request
from search.trial import Candidate, Gate, Outcome


@dataclass(frozen=True)
class Proposal:
    """A candidate handed out under a number. `source` names what made it: opening, tpe, user, ...

    `gate` is what it must pass to be fine-tuned; None: it is fine-tuned whatever its score.
    """

    number: int
    candidate: Candidate
    source: str
    gate: Gate | None = None


@dataclass(frozen=True)
class History:
    """What a proposer remembers from before.

    Attributes:
        pending: handed out without an answer; to be evaluated again under the same number.
        told: numbers that were answered.
    """

    pending: tuple[Proposal, ...]
    told: frozenset[int]


class Proposer(Protocol):
    """Hands out candidates and is told how they ended.

    Numbers count from 0 without gaps. The n-th candidate depends only on the study (space, seed, sampler) and on what
    was told before it was asked for: a proposer opened again on the same storage goes on as if nothing had happened.
    """

    def history(self) -> History:
        """What is known from earlier sessions."""
        ...

    def ask(self) -> Proposal:
        """The next candidate, under the next number."""
        ...

    def enqueue(self, request: Request) -> None:
        """Hand out this candidate before any other; a request whose name is known already changes nothing.

        Raises:
            ConfigError: the candidate is not in the space.
        """
        ...

    def tell(self, number: int, outcome: Outcome, same_as: int | None = None) -> None:
        """How trial `number` ended; telling a second time changes nothing."""
        ...

    def close(self) -> None:
        """Release files and connections; the proposer is not used afterwards."""
        ...
