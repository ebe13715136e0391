"""The kill loop in short: `make soak` runs it for as long as one likes."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from benchmarks.soak import Soak, Tally
from search.testing.known_front import DIMENSIONS, known_measurement
from search.trial import Candidate


def test_killed_again_and_again_nothing_is_lost(tmp_path: Path) -> None:
    soak = Soak(tmp_path / "soak", random.Random(5))
    soak.crash_at("worker.written")
    soak.kill_workers(1)
    soak.crash_at("recorded", 2)
    soak.kill_coordinator()
    tally = soak.finish()
    assert tally.is_clean, str(tally)
    assert sum(tally.kills.values()) >= 5 and tally.trials >= 6  # a quick worker may have ended before it is hit


def test_what_was_lost_or_doubled_is_seen(tmp_path: Path) -> None:
    """The reckoning itself, on a run in which every promise is broken."""
    soak = Soak(tmp_path / "soak")
    candidate = Candidate(dict.fromkeys(DIMENSIONS, 0.5))
    measured = known_measurement(candidate)
    soak.record.start_trial(0, candidate, "x")
    soak.record.write_outcome(0, measured)
    soak._look()
    soak.evaluations.write_text("0 999999999\n")
    soak._look()
    assert soak.tally.doubled == 1, "evaluated again after it was acknowledged"
    soak.record.write_outcome(0, replace(measured, digest="other"))
    with closing(sqlite3.connect(soak.record.path / "study.db")) as connection:
        connection.execute("CREATE TABLE trials (number INTEGER, state TEXT)")
        connection.executemany("INSERT INTO trials VALUES (?, 'COMPLETE')", [(0,), (0,), (2,)])
        connection.commit()
    tally = soak.reckon()
    assert (tally.lost, tally.doubled, tally.gaps) == (1, 2, 2) and not tally.is_clean


def test_a_tally_says_what_was_asked_for() -> None:
    tally = Tally(trials=7)
    tally.kills["worker"] += 2
    assert str(tally).startswith("kills 2 (2 worker)\ntrials 7\nlost 0\ndoubled 0\n") and tally.is_clean
