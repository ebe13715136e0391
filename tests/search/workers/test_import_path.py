"""A file of the user's that has a package's name is not taken for the package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.workers.import_path import as_given, without_working_folder

ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = """\
import os, time
from pathlib import Path
from search.workers.child_process import Child
child = Child(os.getenv, ("PYTHONSAFEPATH", "not set"), log=Path("log.txt"), error_path=Path("error.txt"),
              preload=("search.workers.clock",))
while (answer := child.result()) is None:
    time.sleep(0.02)
print(answer[1])
"""


@pytest.mark.parametrize("given", [None, "1"])
def test_a_child_imports_the_package_though_the_working_folder_has_such_a_file(
    given: str | None, tmp_path: Path
) -> None:
    """The variable that sees to it is for the fork server: programs of the user's find what they were given."""
    work, script = tmp_path / "work", tmp_path / "script.py"
    work.mkdir()
    (work / "search.py").write_text("open('imported', 'w').close()")
    script.write_text(_SCRIPT)
    plain = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    environment = {**plain, "PYTHONPATH": str(ROOT), **({} if given is None else {"PYTHONSAFEPATH": given})}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == [given or "not set"], done.stderr
    assert not (work / "imported").exists()


@pytest.mark.parametrize("given", [None, "", "1"])
def test_the_variable_is_afterwards_what_it_was(given: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "of the shell")  # and so it is again after this test
    as_given(given)
    with without_working_folder() as before:
        assert os.environ["PYTHONSAFEPATH"] == "1" and before == given
    assert os.environ.get("PYTHONSAFEPATH") == given
