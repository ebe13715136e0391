"""Files of a run in a format that is not known here, or of another shape: one message that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.errors import RunCorrupt
from search.run_folder.annotations import read_marks
from search.run_folder.record import RunRecord, check_known, read_json, read_outcome
from search.trial import Candidate, Failure, FailureKind
from tests.search.conftest import SearchOnce, run

RUN = "runs/prune/known"
FILES = ("base/base.json", "base/groups.json", "trials/0001/candidate.json", "trials/0001/result.json")
SHAPES: tuple[Any, ...] = (
    {"format": 1},
    {"format": 1, "measurement": [], "groups": [[1]], "candidate": 3, "state": "complete", "same_as": None},
    {"format": 1, "measurement": {"figures": []}, "groups": 5, "candidate": {"ratios": []}, "state": {}, "source": 1},
)


@pytest.fixture
def place(search_once: SearchOnce) -> Path:
    search_once(**{"search.trials": 3})
    return Path(RUN)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", [("status", RUN), ("ls", RUN), ("show", f"{RUN}:1"), ("report", RUN)])
def test_a_newer_format_is_refused_by_name(place: Path, name: str, command: tuple[str, ...]) -> None:
    _write(place / name, {**json.loads((place / name).read_text()), "format": 99})
    result = run(*command)
    assert result.exit_code == 5, result.output
    assert "written by a newer version: its format is 99" in result.stderr
    assert name in result.stderr and "pip install --upgrade paretoprune" in result.stderr


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("shape", SHAPES)
def test_another_shape_is_damage(place: Path, name: str, shape: Any) -> None:
    _write(place / name, shape)
    result = run("status", RUN)
    assert result.exit_code == 5, result.output
    assert "damaged, cannot be read" in result.stderr and name.rpartition("/")[0] in result.stderr


@pytest.mark.parametrize("found", ["1", None, True, 0, -3, [1]])
def test_a_format_is_a_number(found: object) -> None:
    with pytest.raises(RunCorrupt, match="damaged"):
        check_known({"format": found}, 1, Path("x.json"))


def test_a_run_with_a_newer_snapshot_is_listed_as_unreadable(place: Path) -> None:
    for content in ({"format": 99}, {"progress": [1]}, {"front": 3}):
        _write(place / "snapshot.json", content)
        rows = json.loads(run("ls", "-f", "json").stdout)
        assert [row["state"] for row in rows] == ["unreadable"]


def test_marks_of_another_shape_are_damage(place: Path) -> None:
    for trials in ([1], {"1": 5}, {"x": {"note": "", "pinned": True}}):
        _write(place / "marks.json", {"format": 1, "trials": trials})
        with pytest.raises(RunCorrupt, match="damaged"):
            read_marks(place)


def test_a_result_of_a_newer_version_is_not_evaluated_again(tmp_path: Path) -> None:
    record = RunRecord(tmp_path / "run")
    record.start_trial(0, Candidate({"a": 0.5}, 64, "fp32"), "x")
    record.write_outcome(0, Failure(next(iter(FailureKind)), "it failed"))
    path = record.trial_dir(0) / "result.json"
    _write(path, {**json.loads(path.read_text()), "format": 2})
    with pytest.raises(RunCorrupt, match="newer version"):
        read_outcome(record.trial_dir(0))


def test_json_without_end_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(RunCorrupt, match="damaged"):
        read_json(tmp_path / "a.json")
