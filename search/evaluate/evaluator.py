"""The seam between a search and what it measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from search.evaluate.gate import Gate
from search.propose.baselines import HonestRow
from search.space import Space
from search.trial import Candidate, Measurement

if TYPE_CHECKING:
    from search.propose.guide import Guide


@dataclass(frozen=True)
class Realised:
    """What a candidate becomes after rounding, ties and minimums. Equal keys are equal networks on equal inputs."""

    key: str
    widths: Mapping[str, int]


class Evaluator(Protocol):
    """Measures candidates. Picklable: it travels to the process that runs a trial."""

    def realise(self, candidate: Candidate) -> Realised:
        """What the candidate becomes: cheap, pure, called by the coordinator."""
        ...

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, gate: Gate | None = None
    ) -> Measurement:
        """Everything that is measured about the candidate. May write into `work_dir`; raises to fail the trial.

        A candidate that `gate` does not admit ends there, `screened`.
        """
        ...


class Closing(Protocol):
    """Measures what is no trial: what comes at the end of a search. Picklable, as an `Evaluator` is."""

    def honest(self, row: HonestRow, seed: int, work_dir: Path) -> Measurement:
        """One honest row. Raises to fail it; may write into `work_dir`."""
        ...

    def together(self, candidates: Mapping[int, Candidate], seed: int, work_dir: Path) -> Measurement:
        """The latency of several trials, by number, in one interleaved measurement.

        No figures: `timing` holds number (as text) -> {"latency_ms": estimate, and what `Measurement.timing` holds}.
        Candidates that cannot be timed so are left out.
        """
        ...


@dataclass(frozen=True)
class Prepared:
    """What a search needs before its first trial.

    Attributes:
        base: the unpruned model, measured as the trials are.
        groups: rows for the snapshot: name, size, stage, frozen, tie.
        notes: one sentence each, shown before the search.
        preload: modules that a trial's process imports first, paid once.
        guide: what `auto` proposes with, where sensitivity was measured.
        closing: measures what comes after the last trial; None: only what an evaluator can.
    """

    evaluator: Evaluator
    space: Space
    base: Measurement
    groups: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    preload: tuple[str, ...] = field(default=())
    guide: Guide | None = None
    closing: Closing | None = None
