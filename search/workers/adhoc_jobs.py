"""Work that is no trial, run by an engine as if it were one, for isolation, limits and recorded failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from search.evaluate.evaluator import Realised
from search.trial import Candidate, Gate, Measurement

Work = Callable[[Path], Measurement]
"""Takes the folder to work in. Picklable."""


@dataclass(frozen=True)
class Tasks:
    """An `Evaluator` whose trial `n` is the n-th task; its candidates are ignored."""

    work: tuple[Work, ...]

    def realise(self, candidate: Candidate) -> Realised:
        """Return a placeholder: there is no network."""
        return Realised("", {})

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, gate: Gate | None = None
    ) -> Measurement:
        return self.work[number](work_dir)
