"""The interface between a search and its measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from search.run_folder.crash_points import reached
from search.run_folder.record import write_outcome
from search.trial import Candidate, Measurement, Origin, ScreeningLimit


@dataclass(frozen=True)
class PrunedCandidate:
    """A candidate after rounding, ties and minimums. Equal keys are equal networks on equal inputs."""

    key: str
    widths: Mapping[str, int]


class Evaluator(Protocol):
    """Measures candidates. Picklable: it is sent to the process that runs a trial."""

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        """Return what the candidate becomes; cheap, pure, called by the coordinator."""
        ...

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        """Measure everything about the candidate. May write into `work_dir`; raises to fail the trial.

        A candidate that `screening` does not admit ends there, `screened`.
        """
        ...


@dataclass(frozen=True)
class EvaluatorByBase:
    """Measures each candidate of a study of several bases by the evaluator of its own base."""

    evaluators: tuple[Evaluator, ...]

    def pruned(self, candidate: Candidate) -> PrunedCandidate:
        found = self.evaluators[candidate.base].pruned(candidate)
        return replace(found, key=f"{candidate.base}:{found.key}")

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        own = self.evaluators[candidate.base]
        return own.evaluate(candidate, number, seed, work_dir, screening)


def recorded(measure: Callable[[Path], Measurement], work_dir: Path, origin: Origin | None = None) -> Measurement:
    """Measure and write result.json: the work of a job whose measurement counts even if its process dies after it.

    Args:
        origin: what the measurement is made of; recorded with it.
    """
    reached("worker.begun")
    measured = measure(work_dir)
    reached("worker.measured")
    write_outcome(work_dir, measured, origin=origin)
    reached("worker.written")
    return measured
