"""Records both ways through JSON, and files that are whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from objectives.image_size import Size
from objectives.objective import Estimate
from search.run_folder.atomic import write_atomic, write_json
from search.run_folder.record import RunRecord
from search.testing.known_front import known_measurement
from search.trial import Candidate, Failure, FailureKind, Measurement, PointId, TrialState
from search.workers.child_process import classify

CANDIDATE = Candidate({"head": 0.25, "stem": 0.5}, 320, removed=("model.4.m.0",))


def test_candidates_from_before_blocks_could_go_are_read() -> None:
    data = CANDIDATE.to_json()
    del data["removed"]
    assert Candidate.from_json(data) == Candidate(CANDIDATE.ratios, 320)


@pytest.mark.parametrize("size", [640, (384, 640)])
def test_a_candidate_survives_json_with_either_kind_of_size(size: Size) -> None:
    candidate = Candidate({"stem": 0.5}, size)
    row = json.loads(json.dumps(candidate.to_json()))
    assert row["imgsz"] == (640 if size == 640 else "384x640")
    assert Candidate.from_json(row) == candidate
    with pytest.raises(ValueError, match="no input size"):
        Candidate.from_json({**row, "imgsz": "large"})


@pytest.mark.parametrize("outcome", [known_measurement(CANDIDATE), Failure(FailureKind.SIGNAL, "SIGKILL")])
def test_outcomes_survive_the_record(tmp_path: Path, outcome: Measurement | Failure) -> None:
    record = RunRecord(tmp_path)
    record.start_trial(7, CANDIDATE, "tpe")
    stopped = record.read_trial(7)
    assert stopped is not None and stopped.state == TrialState.STOPPED
    record.write_outcome(7, outcome)
    trial = record.read_trial(7)
    assert trial is not None and trial.candidate == CANDIDATE and trial.source == "tpe"
    assert trial.outcome == outcome
    assert trial.error == (None if isinstance(outcome, Measurement) else "signal: SIGKILL")


def test_a_failure_of_an_older_version_is_read(tmp_path: Path) -> None:
    record = RunRecord(tmp_path)
    folder = record.start_trial(4, CANDIDATE, "opening")
    failure = {"kind": "timeout", "message": "not finished: too slow"}
    write_json(folder / "result.json", {"format": 1, "state": "failed", "same_as": None, "failure": failure})
    (trial,) = record.trials()
    assert (trial.state, trial.measurement) == (TrialState.FAILED, None)
    assert trial.failure == Failure(FailureKind.TIMEOUT, "not finished: too slow")
    assert trial.error == "timeout: not finished: too slow"


def test_starting_again_removes_what_a_cut_left(tmp_path: Path) -> None:
    record = RunRecord(tmp_path)
    folder = record.start_trial(0, CANDIDATE, "tpe")
    (folder / "weights.pt").write_bytes(b"half")
    record.start_trial(0, CANDIDATE, "tpe")
    assert [path.name for path in folder.iterdir()] == ["candidate.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        write_atomic(path, None)  # type: ignore[arg-type]
    assert json.loads(path.read_text()) == {"a": 1}
    assert [item.name for item in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), FailureKind.OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), FailureKind.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), FailureKind.OUT_OF_MEMORY),
        (ValueError("Estimate: value must be finite, found nan"), FailureKind.NOT_FINITE),
        (RuntimeError("information about banana"), FailureKind.ERROR),
    ],
)
def test_exceptions_are_classified(error: Exception, kind: FailureKind) -> None:
    assert classify(error).kind == kind


def test_an_estimate_that_is_not_finite_cannot_be_read() -> None:
    data = {"figures": {"map50_95": {"value": float("inf"), "low": 0, "high": 1}}}
    with pytest.raises(ValueError, match="finite"):
        Measurement.from_json({**data, "widths": {}, "plan": None, "digest": "", "seconds": {}})
    assert Estimate.exact(1).value == 1


@pytest.mark.parametrize(("point", "text"), [(PointId(17), "17"), (PointId(0, "int8"), "0-int8")])
def test_a_point_is_its_text(point: PointId, text: str) -> None:
    assert str(point) == text and PointId.parse(text) == point


@pytest.mark.parametrize("text", ["", "-1", "x", "17-", "17-int4", "17 int8", "17-int8-int8", "²", "17\n"])
def test_what_is_no_point_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a trial such as 17"):
        PointId.parse(text)


def test_a_trial_comes_before_its_exports_and_these_before_the_next() -> None:
    points = [PointId(10), PointId(2, "int8"), PointId(2), PointId(2, "fp16")]
    assert list(map(str, sorted(points))) == ["2", "2-fp16", "2-int8", "10"]
