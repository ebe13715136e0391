"""A call in a child process: what a script of the user's needs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from search.workers import child_process

ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = """\
import time
from functools import partial
from pathlib import Path
from search.workers.child_process import Child
{guarded}
    child = Child(partial({work}, 20), (1,), log=Path("log.txt"), error_path=Path("error.txt"), preload=())
    while (answer := child.result()) is None:
        time.sleep(0.02)
    print(answer)
"""
_OWN = 'print("runs")\nclass Add:\n    def __call__(self, a, b):\n        return a + b\nif __name__ == "__main__":'
_GUARDLESS = 'print("runs")\nimport operator\nif True:'


@pytest.mark.parametrize(
    ("guarded", "work", "runs_in_child"), [(_OWN, "Add()", True), (_GUARDLESS, "operator.add", False)]
)
def test_the_script_runs_again_in_the_child_only_where_its_own_classes_travel(
    guarded: str, work: str, runs_in_child: bool, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(_SCRIPT.format(guarded=guarded, work=work))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "(True, 21)", done.stderr
    assert done.stdout.count("runs") == 1 + runs_in_child


def test_a_temporary_folder_that_is_too_long_for_sockets_is_none_too_long(tmp_path: Path) -> None:
    """AF_UNIX has 107 bytes for a path, 103 on macOS; folders of batch systems and containers are longer."""
    deep = tmp_path / ("t" * 80)
    deep.mkdir()
    (tmp_path / "script.py").write_text(_SCRIPT.format(guarded=_GUARDLESS, work="operator.add"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(deep)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["(True, 21)"], done.stderr


@pytest.mark.parametrize(("length", "is_too_long"), [(53, False), (54, True)])
def test_the_temporary_folder_is_used_as_long_as_sockets_fit(
    length: int, is_too_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_MOST_SOCKET_BYTES", 107)
    monkeypatch.setattr(tempfile, "tempdir", "/" + "t" * (length - 1))
    assert (child_process._socket_parent() is not None) == is_too_long
