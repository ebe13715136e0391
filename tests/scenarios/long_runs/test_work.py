"""What is read and drawn of a run costs work in proportion to its trials. Calls are counted, not seconds."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from pathlib import Path

import pytest

from search.commands.runs import runs
from search.present.terminal.status import render_status
from search.present.terminal.tables import trials_table
from search.study import Study
from search.testing.finished_run import write_finished_run

READERS: dict[str, Callable[[Path], object]] = {
    "status": lambda run: render_status(Study.load(run).snapshot()),
    "show": lambda run: trials_table(Study.load(run).snapshot()),
    "ls": lambda run: runs(run.parent),
    "report": lambda run: Study.load(run).report(),
    "pick": lambda run: Study.load(run).pick(budget="edge"),
    "refresh": lambda run: Study.load(run).refresh(),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs of 100 and of 400 trials."""
    return {trials: write_finished_run(tmp_path_factory.mktemp("long"), trials).path for trials in (100, 400)}


def calls(work: Callable[[Path], object], run: Path) -> int:
    """The functions that are called, once everything is imported and cached."""
    work(run)
    profile = cProfile.Profile()
    profile.runcall(work, run)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


@pytest.mark.parametrize("reader", READERS)
def test_four_times_the_trials_are_four_times_the_work(reader: str, finished: dict[int, Path]) -> None:
    few, many = (calls(READERS[reader], finished[trials]) for trials in (100, 400))
    assert many <= 4.4 * few, f"{few} calls for 100 trials, {many} for 400"
