"""A call in a child process: what a script of the user's needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
