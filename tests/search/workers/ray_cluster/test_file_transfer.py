"""What travels between the coordinator and a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.run_folder.atomic import write_atomic
from search.run_folder.record import read_outcome, write_outcome
from search.testing.known_front import known_base
from search.trial import Failure, FailureKind
from search.workers.ray_cluster import file_transfer


@pytest.fixture
def parcel(tmp_path: Path) -> Path:
    """What a worker leaves of a job with a log and a sample image."""
    write_atomic(tmp_path / "parcel" / "samples" / "1.jpg", b"new")
    write_atomic(tmp_path / "parcel" / "train.log", "epoch 1")
    return tmp_path / "parcel"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_atomic(tmp_path / "home" / "samples" / "1.jpg", b"of a lost attempt")
    return tmp_path / "home"


def test_files_are_put_where_they_are_missing_and_nowhere_else(tmp_path: Path) -> None:
    there, lost = tmp_path / "there.pt", tmp_path / "a" / "lost.pt"
    for path in (there, lost):
        write_atomic(path, b"weights")
    files = file_transfer.packed((there, lost, tmp_path / "absent.pt"))
    there.write_bytes(b"already here")
    lost.unlink()
    lost.parent.rmdir()
    file_transfer.unpack(files)
    assert (there.read_bytes(), lost.read_bytes()) == (b"already here", b"weights")


def test_the_result_is_there_only_when_everything_else_is(
    parcel: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_outcome(parcel, known_base())
    arrived: list[set[str]] = []

    def noting(path: Path, content: bytes) -> None:
        arrived.append({path.name for path in path.parent.iterdir()})
        write_atomic(path, content)

    monkeypatch.setattr(file_transfer, "write_atomic", noting)
    assert file_transfer.bring_home(parcel, home, known_base()) == known_base()
    assert arrived == [{"samples", "train.log"}]
    assert read_outcome(home) == (known_base(), None)
    assert (home / "samples" / "1.jpg").read_bytes() == b"new"


def test_of_a_failure_the_log_comes_home_and_the_loop_records_it(parcel: Path, home: Path) -> None:
    failure = Failure(FailureKind.NOT_FINITE, "the loss is NaN")
    assert file_transfer.bring_home(parcel, home, failure) == failure
    assert (home / "train.log").exists() and not (home / "result.json").exists()


@pytest.mark.parametrize("content", ['{"state": "comp', ""])
def test_a_result_that_is_not_whole_is_a_failure(parcel: Path, home: Path, content: str) -> None:
    (parcel / "result.json").write_text(content)
    outcome = file_transfer.bring_home(parcel, home, known_base())
    assert isinstance(outcome, Failure) and "cannot be read" in outcome.message
    assert not (home / "result.json").exists() and not (home / "train.log").exists()
