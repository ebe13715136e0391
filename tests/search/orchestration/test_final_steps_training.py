"""A rival that is trained after the search has the time that the trials took, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from search.evaluate.baselines import Baseline
from search.testing.known_front import KnownFinalMeasurements, KnownFrontEvaluator
from search.trial import Measurement
from tests.search.conftest import MakeStudy


@dataclass(frozen=True)
class Witness(KnownFinalMeasurements):
    """Remembers what it was asked to measure."""

    seen: list[Baseline] = field(default_factory=list)

    def baseline(self, row: Baseline, seed: int, work_dir: Path) -> Measurement:
        self.seen.append(row)
        return super().baseline(row, seed, work_dir)


@pytest.mark.parametrize(("of_a_trial", "allowed"), [(60.0, 4 * 60.0), (1.0, 60.0)])
def test_it_is_trained_as_long_as_the_trials_took(make_study: MakeStudy, of_a_trial: float, allowed: float) -> None:
    witness = Witness()
    rows = {"baselines": ["int8", {"train": "yolov8n.yaml"}], "search.trials": 4}
    study = make_study(KnownFrontEvaluator(seconds=of_a_trial), final=witness, **rows).search()
    assert {row.kind: row.seconds for row in witness.seen} == {"int8": None, "train": allowed}
    assert "yolov8n trained as long as the search" in {row["name"] for row in study.snapshot()["baselines"]}
