"""Files of a run are those inside it: what a link brings in is neither embedded nor served."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from search.errors import RunCorrupt
from search.present.page_data import _mapping
from search.present.trial_files import data_address, details, files_of, samples_of
from search.study import Study
from search.trial import PointId
from tests.search.conftest import SearchOnce

SECRET = "root:x:0:0"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    return path


@pytest.fixture
def run(tmp_path: Path, secret: Path) -> Path:
    """A run in which every file that can be shown is a link, beside an honest one."""
    run = tmp_path / "run"
    for folder in ("trials/0001/samples", "base/samples", "picks/trial-0001"):
        (run / folder).mkdir(parents=True)
    for name in ("trials/0001/samples/0.jpg", "base/samples/0.jpg", "trials/0001/train.log", "picks/trial-0001/x.md"):
        (run / name).symlink_to(secret)
    (run / "trials/0001/samples/1.jpg").write_bytes(b"pixels")
    (run / "trials/0001/result.json").write_text("{}")
    (run / "picks/trial-0002").symlink_to(secret.parent)
    return run


def test_links_out_of_the_run_are_left_out(run: Path) -> None:
    assert [path.name for path in files_of(run, PointId(1))] == ["result.json"]
    assert files_of(run, PointId(2)) == []
    assert [path.name for path in samples_of(run, run / "trials/0001")] == ["1.jpg"]
    assert samples_of(run, run / "base") == []
    found = details(run, PointId(1), data_address)
    assert len(found["samples"]) == 1 and SECRET not in str(found)


def test_a_run_that_is_itself_reached_by_a_link_is_whole(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(run)
    assert [path.name for path in samples_of(tmp_path / "link", tmp_path / "link/trials/0001")] == ["1.jpg"]


def test_a_linked_folder_brings_no_json_into_the_page(run: Path, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/whatif.json").write_text('{"auths": "secret"}')
    (run / "sensitivity").symlink_to(tmp_path / "docker")
    assert _mapping(run, "sensitivity/whatif.json") is None


def test_the_report_embeds_no_link(search_once: SearchOnce, secret: Path) -> None:
    study: Study = search_once(**{"search.trials": 3})
    base = study.record.path / "base/samples"
    base.mkdir(parents=True)
    (base / "0.jpg").symlink_to(secret)

    assert base64.b64encode(SECRET.encode()).decode() not in study.report().read_text()


def test_linked_weights_are_not_delivered(search_once: SearchOnce, secret: Path) -> None:
    study: Study = search_once(**{"search.trials": 3})
    picked = study.knee()
    assert picked.trial is not None
    (study.record.trial_dir(picked.trial.number) / "weights.pt").symlink_to(secret)
    with pytest.raises(RunCorrupt, match="a link leads out of the run"):
        picked.weights()
