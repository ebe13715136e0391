"""A cut at every named moment: the resumed study is, byte for byte, the one that was never cut."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from search.run_folder.crash_points import POINTS, VARIABLE, arm, killer, reached
from search.run_folder.record import RunRecord
from search.study import Study
from search.testing.simulated import Cut
from tests.search.conftest import MakeStudy

OPTIONS = {"search.trials": 5, "search.sampler": "tpe"}
TIMES = {"claimed": 1, "prepared": 1, "closing": 1, "file.part": 12, "file.renamed": 12}
"""The passage at which it is cut; the twelfth file is a result.json."""
_whole: list[dict[str, bytes]] = []


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    arm(None)


def cut_at(point: str, count: int) -> Callable[[str], None]:
    left = count

    def handle(passed: str) -> None:
        nonlocal left
        left -= passed == point
        if passed == point and left == 0:
            raise Cut(point)

    return handle


def files(record: RunRecord) -> dict[str, bytes]:
    """What a trial is: what was asked, and what came of it."""
    found = sorted(record.path.glob("trials/*/*.json"))
    return {str(path.relative_to(record.path)): path.read_bytes() for path in found}


def told(record: RunRecord) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(record.path / "study.db")) as connection:
        return list(connection.execute("SELECT number, state FROM trials ORDER BY number"))


def uncut(make_study: MakeStudy, workplace: Path) -> dict[str, bytes]:
    if not _whole:
        _whole.append(files(make_study(**OPTIONS).search().record))
        shutil.rmtree(workplace / "runs")
    return _whole[0]


@pytest.mark.parametrize("point", POINTS)
def test_a_cut_there_changes_nothing(point: str, make_study: MakeStudy, workplace: Path) -> None:
    whole = uncut(make_study, workplace)
    arm(cut_at(point, TIMES.get(point, 3)))
    with pytest.raises(Cut, match=point):
        make_study(**OPTIONS).search()
    arm(None)
    study: Study = make_study(**OPTIONS).search()
    assert files(study.record) == whole
    assert told(study.record) == [(number, "COMPLETE") for number in range(5)]
    assert study.state() == "finished"


@pytest.mark.parametrize("point", ["file.part", "file.renamed"])
def test_a_cut_while_the_report_is_written_leaves_a_whole_one(point: str, make_study: MakeStudy) -> None:
    study = make_study(**OPTIONS).search()
    old = study.report().read_bytes()
    study = make_study(**{**OPTIONS, "search.trials": 6}).search()
    arm(cut_at(point, 1))
    with pytest.raises(Cut, match=point):
        study.report()
    arm(None)
    left = (study.record.path / "report.html").read_bytes()
    assert (left == old) == (point == "file.part") and left.rstrip().endswith(b"</html>")
    assert study.report().read_bytes() != old and not list(study.record.path.glob(".*.part"))


def test_an_unarmed_point_does_nothing() -> None:
    reached("told")


def test_a_point_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="no crash point 'lunch'"):
        killer("lunch:1:token")


def test_the_variable_kills_once_per_token(tmp_path: Path) -> None:
    code = "from search.run_folder.crash_points import reached\n"
    code += "for _ in range(3): reached('told'); print('on', flush=True)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), VARIABLE: f"told:2:{tmp_path / 'token'}"}
    said = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True) for _ in range(2)
    ]
    assert [(one.returncode, one.stdout.count("on")) for one in said] == [(-9, 1), (0, 3)]
