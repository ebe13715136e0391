"""Promotions within a whole search: their parents' weights stay until they are needed no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from search.orchestration.loop import Loop
from search.propose.proposer import Proposal
from search.run_folder.record import RunRecord
from search.trial import Candidate, Promotion


def test_trials_that_open_ones_continue_are_named(tmp_path: Path) -> None:
    nothing: Any = None
    loop = Loop(nothing, nothing, nothing, RunRecord(tmp_path), nothing, nothing)
    own = Candidate({"stem": 0.5})
    open_ones = [own, own.promoted(Promotion(3, 1, 1)), own.promoted(Promotion(None, 1, 1))]
    for number, candidate in enumerate(open_ones, 10):
        loop._proposals[number] = Proposal(number, candidate, "promoted")
    assert loop.continued == {3}
    loop._again.append(Proposal(20, own.promoted(Promotion(5, 2, 2)), "promoted"))
    assert loop.continued == {3, 5}
