"""The inputs of a search, and the interface for measurements after its last trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from search.evaluate.baselines import Baseline
from search.evaluate.evaluator import Evaluator
from search.space import AnySpace, JointSpace, Space
from search.trial import Candidate, FinalLatency, Measurement

if TYPE_CHECKING:
    from search.propose.guided import Adviser


class FinalMeasurements(Protocol):
    """Measures baselines and final latencies at the end of a search. Picklable, as an `Evaluator` is."""

    def baseline(self, row: Baseline, seed: int, work_dir: Path) -> Measurement:
        """Measure one baseline. Raises to fail it; may write into `work_dir`."""
        ...

    def together(self, candidates: Mapping[int, Candidate], seed: int, work_dir: Path) -> dict[int, FinalLatency]:
        """The latency of several trials, by number, in one interleaved measurement.

        Candidates that cannot be timed so are left out.
        """
        ...


@dataclass(frozen=True)
class Prepared:
    """Inputs of a search.

    Attributes:
        space: of the first base, if there are several; `joint` is then the space of all.
        base: the unpruned model, measured as the trials are; of several bases the first, their reference.
        groups: rows for the snapshot: name, size, stage, frozen, tie.
        notes: one sentence each, shown before the search.
        preload: modules that a trial's process imports first, loaded once.
        guide: the proposer of `auto`, if sensitivity was measured.
        final: measures baselines and final latencies; None if there is only an evaluator.
    """

    evaluator: Evaluator
    space: Space
    base: Measurement
    groups: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    preload: tuple[str, ...] = field(default=())
    guide: Adviser | None = None
    final: FinalMeasurements | None = None
    joint: JointSpace | None = None

    @property
    def searched(self) -> AnySpace:
        """The space that is searched: of the one base, or of all."""
        return self.joint or self.space
