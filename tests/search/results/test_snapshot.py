"""A run that is being searched has rows that its snapshot on disk lacks: what runs, and what was just exported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from search.results.exported_points import point_path
from search.results.snapshot import current_snapshot, snapshot_with
from search.run_folder.atomic import write_json
from search.run_folder.lock import RunLock
from search.study import Study
from search.trial import PointId
from tests.search.conftest import SearchOnce, run

POINT = PointId(3, "int8")


@pytest.fixture
def study(search_once: SearchOnce) -> Iterator[Study]:
    """Six trials, a seventh that runs, and an INT8 file of trial 3 that was exported since the sixth ended."""
    made = search_once(**{"search.trials": 6, "budgets": {"edge": {"latency_ms": 1.5}}})
    with RunLock(made.record.path / "run.lock"):
        made.record.start_trial(6, made.trial(2).chosen.candidate, "tpe")
        own = made.trial(3).chosen.measured
        figures = {**own.figures, "latency_ms": own.figures["latency_ms"].scaled(0.1)}
        exported = replace(own, figures=figures, seconds={}).to_json()
        content = {"format": 1, "trial": 3, "precision": "int8", "measurement": exported}
        write_json(point_path(made.record.path, POINT), content)
        (made.record.trial_dir(3) / "weights.pt").write_bytes(b"weights")
        yield Study.load(made.record.path)


def test_a_trial_that_runs_is_shown(study: Study) -> None:
    shown = run("show", f"{study.record.path}:6")
    assert shown.exit_code == 0 and "trial 6" in shown.stdout and "running" in shown.stdout, shown.output
    row = json.loads(run("show", f"{study.record.path}:6", "-f", "json").stdout)
    assert (row["id"], row["state"], row["figures"]) == ("6", "running", {})


def test_an_export_is_picked_before_the_next_trial_ends(study: Study) -> None:
    found = run("pick", str(study.record.path), "-f", "json")
    assert found.exit_code == 0, found.output
    facts = json.loads(found.stdout)
    assert facts["id"] == "3-int8" and facts["note"] is None
    row = json.loads((study.record.path / "picks" / "edge" / "pick.json").read_text())["trial"]
    assert (row["id"], row["state"], row["exported"]) == ("3-int8", "complete", True)
    assert "trial 3-int8" in run("show", f"{study.record.path}:3-int8").stdout


def test_the_rest_of_the_snapshot_is_the_one_on_disk(study: Study) -> None:
    results = study.results()
    before = current_snapshot(results)
    for point in results.points:
        content = snapshot_with(results, point)
        assert content["trials"][:6] == before["trials"] and content["trials"][-1]["id"] in (str(point.id), "5")
        assert {**content, "trials": []} == {**before, "trials": []}
