"""What travels between the coordinator and a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.run_folder.atomic import write_atomic
from search.run_folder.record import read_outcome, write_outcome
from search.testing.known_front import known_base
from search.trial import Failure, FailureKind, Outcome
from search.workers.ray_cluster import file_transfer


def _parcel(folder: Path, outcome: Outcome) -> Path:
    """What a worker leaves of a trial with a log and a sample image."""
    trial = folder / "there"
    write_atomic(trial / "samples" / "1.jpg", b"new")
    write_atomic(trial / "train.log", "epoch 1")
    if not isinstance(outcome, Failure):
        write_outcome(trial, outcome)
    file_transfer.leave(trial, outcome, folder / "parcel")
    return folder / "parcel"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_atomic(tmp_path / "home" / "samples" / "1.jpg", b"of a lost attempt")
    return tmp_path / "home"


def test_files_are_put_where_they_are_missing_and_nowhere_else(tmp_path: Path) -> None:
    there, lost = tmp_path / "there.pt", tmp_path / "a" / "lost.pt"
    for path in (there, lost):
        write_atomic(path, b"weights")
    luggage = file_transfer.packed((there, lost, tmp_path / "absent.pt"))
    there.write_bytes(b"already here")
    lost.unlink()
    lost.parent.rmdir()
    file_transfer.unpack(luggage)
    assert (there.read_bytes(), lost.read_bytes()) == (b"already here", b"weights")


def test_the_result_is_there_only_when_everything_else_is(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parcel, arrived = _parcel(tmp_path, known_base()), list[set[str]]()

    def noting(folder: Path, outcome: Outcome) -> None:
        arrived.append({path.name for path in folder.iterdir()})
        write_outcome(folder, outcome)

    monkeypatch.setattr(file_transfer, "write_outcome", noting)
    assert file_transfer.bring_home(parcel, home) == known_base()
    assert arrived == [{"samples", "train.log"}]
    assert read_outcome(home) == (known_base(), None)
    assert (home / "samples" / "1.jpg").read_bytes() == b"new"


def test_of_a_failure_the_log_comes_home_and_the_loop_records_it(tmp_path: Path, home: Path) -> None:
    failure = Failure(FailureKind.NOT_FINITE, "the loss is NaN")
    assert file_transfer.bring_home(_parcel(tmp_path, failure), home) == failure
    assert (home / "train.log").exists() and not (home / "result.json").exists()


def test_a_parcel_that_cannot_be_read_is_a_failure(tmp_path: Path, home: Path) -> None:
    parcel = _parcel(tmp_path, known_base())
    (parcel / "result.json").write_text('{"state": "comp')
    outcome = file_transfer.bring_home(parcel, home)
    assert isinstance(outcome, Failure) and "cannot be read" in outcome.message
    assert not (home / "result.json").exists() and not (home / "train.log").exists()
