"""The command line: messages, exit codes, formats."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from objectives.errors import BackendMissing, NothingFits
from pruning.errors import CheckpointError, PlanError, RecoveryError
from search.cli import app, error_text
from search.config.inputs import user_modules
from search.errors import ConfigError, Interrupted, RunLocked, SystemUnsupported, exit_code
from search.run_folder.lock import RunLock

from .conftest import SearchOnce, run

RUN = "runs/prune/known"


@pytest.fixture
def searched(search_once: SearchOnce) -> str:
    search_once(**{"search.trials": 12, "budgets": {"edge": {"latency_ms": 6}}})
    return RUN


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (PlanError("x"), 2),
        (CheckpointError("x"), 2),
        (NothingFits(0, "x", {}), 3),
        (BackendMissing("openvino", needed_for="x", install="pip install openvino"), 4),
        (RunLocked("x"), 5),
        (Interrupted("x"), 130),
        (KeyboardInterrupt(), 130),
        (RecoveryError("x"), 1),
        (PermissionError(errno.EACCES, "Permission denied", "/srv/runs"), 2),
        (OSError(errno.EROFS, "Read-only file system", "/srv/runs/report.html"), 2),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 2),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']"), 2),
        (ZeroDivisionError("x"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code(error) == code
    assert ("internal error" in error_text(error)) == isinstance(error, ZeroDivisionError)


def test_no_error_is_labelled_twice_and_no_control_character_reaches_the_terminal() -> None:
    assert error_text(ConfigError("error: no such file")) == "error: no such file"
    assert error_text(ConfigError("key \x1b[31mred\x07\u202e")) == "error: key \\x1b[31mred\\x07\\u202e"
    assert error_text(ZeroDivisionError("\x1b]0;title")).startswith("internal error: ZeroDivisionError: \\x1b]0;title")


def test_an_unknown_format_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("check", "nowhere.yaml", "-f", "typo")
    assert result.exit_code == 2 and "no format 'typo'" in result.stderr


def test_another_ultralytics_than_those_tested_is_a_warning_and_no_refusal(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "8.9.1" if name == "ultralytics" else real(name))
    result = run("ls")
    assert result.exit_code == 0 and result.stderr.startswith("warning: Ultralytics 8.9.1 is newer than anything")
    monkeypatch.undo()
    assert run("ls").stderr == ""


def test_usage_errors_exit_2() -> None:
    assert run("dashboard", "--port", "99999999").exit_code == 2
    mistyped = run("serach")
    assert mistyped.exit_code == 2 and "Did you mean 'search'?" in mistyped.stderr
    assert run("pick", "--best").exit_code == 2


def test_a_faulty_study_is_one_message_without_traceback(workplace: Path) -> None:
    (workplace / "study.yaml").write_text("model: best.pt\ndata: data.yaml\ntrials: 5\nimgsz: 100\n")
    result = run("search")
    assert result.exit_code == 2
    assert "study.yaml line 3: trials: unknown key; did you mean search.trials?" in result.stderr
    assert "study.yaml line 4: imgsz" in result.stderr
    assert "Traceback" not in result.output
    assert "Traceback" in run("search", "--debug").stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("search", "study.yaml", "search.trials"), "is not key=value"),
        (("search", "study.yaml", "imgsz=320", "imgsz=640"), "given twice"),
        (("search", "nowhere.yaml"), "paretoprune init"),
        (("status", "runs/prune/knwon"), "did you mean: runs/prune/known"),
        (("show", f"{RUN}:99"), "has no trial 99"),
        (("show", f"{RUN}:kne"), "did you mean: knee"),
        (("show", "known"), "does not name a trial"),
        (("pick", RUN, "--max", "latency=5"), "latency_ms"),
        (("pick", RUN, "--knee", "--one-se"), "exclude each other"),
        (("pick", RUN, "--budget", "egde"), "did you mean: edge"),
        (("status", RUN, "-f", "xml"), "expected: table, json, yaml"),
        (("prune", "model=best.pt"), "model= and ratio= (or ratios=, or plan=) are needed"),
        (("prune", "model=best.pt", "ratio=1.0"), "1.0 is not a ratio"),
        (("prune", "model=best.pt", "ratio=0.3", "ranking=globl"), "did you mean: global"),
        (("prune", "model=best.pt", "ratio=0.3", "imgsz=100"), "not a multiple of 32"),
        (("prune", "model=best.pt", "ratio=0.3", "imgsz=64,100"), "64x100 is not a multiple of 32"),
        (("prune", "model=best.pt", "ratio=0.3", "imgsz=64,96,128"), "for example 640, or 384,640 (height, width)"),
        (("prune", "model=best.pt", "ratio=0.3", "round_to=0"), "whole number above 0"),
        (("prune", "model=best.pt", "plan=nowhere.json"), "no such file"),
        (("prune", "model=best.pt", "plan=data.yaml", "ratio=0.3"), "plan= fixes everything"),
        (("finetune", f"{RUN}:3", "epohcs=2"), "no plan to fine-tune"),
        (("export", f"{RUN}:3", "format=onxx"), "did you mean: onnx"),
        (("export", f"{RUN}:knee", "--max-drop", "nan"), "nan is no loss that is allowed"),
        (("export", f"{RUN}:knee", "--max-drop", "-0.1"), "-0.1 is no loss that is allowed"),
        (("export", f"{RUN}:knee", "max_drop=true"), "True is no loss that is allowed"),
        (("export", f"{RUN}:knee", "quantize=²"), "unknown precision ²"),
        (("show", f"{RUN}:²"), "'²' names no trial"),
        (("show", f"{RUN}:{'9' * 5000}"), "names no trial"),
        (("show", "x" * 300 + ":3"), "File name too long"),
        (("report", RUN, "--out", "/"), "Is a directory: '/'"),
        (("search", "study.yaml", "name=" + "x" * 300), "a name is a folder"),
        (("search", "study.yaml", "search.hours=.inf"), "finite number"),
        (("export", "best.pt", "data=data.yaml", "seconds=.inf"), "is not a number above 0"),
        (("show", "nowhere:3"), "no run at"),
        (("prune", "model=best.pt", "ratio=0.3", "impotance=l1"), "did you mean: importance"),
        (("export", f"{RUN}:knee", "fromat=onnx"), "did you mean: format"),
        (("init",), "exists already"),
    ],
)
def test_mistakes_exit_2_and_say_what_to_do(searched: str, words: tuple[str, ...], expected: str) -> None:
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and expected in result.stderr


def test_nothing_fits_exits_3_and_names_the_closest(searched: str) -> None:
    result = run("pick", searched, "--max", "latency_ms=0.5")
    assert result.exit_code == 3
    assert "The closest is trial" in result.stderr


def test_a_locked_run_exits_5_at_once(workplace: Path) -> None:
    """Who waited for the lock would wait for ever."""
    with RunLock(workplace / RUN / "run.lock"):
        found = subprocess.run(
            [sys.executable, "-m", "search.cli", "search", "study.yaml"],
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
    assert found.returncode == 5
    assert "is being searched by pid" in found.stderr and "paretoprune status" in found.stderr


@pytest.mark.parametrize("words", [("resume", RUN), ("baselines", RUN, "uniform")])
@pytest.mark.parametrize(("key", "file"), [("model", "best.pt"), ("data", "data.yaml"), ("modules", "blocks.py")])
def test_a_file_of_the_study_that_is_gone_exits_2(
    key: str,
    file: str,
    words: tuple[str, ...],
    search_once: SearchOnce,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(user_modules, "_declared", {})
    (workplace / "blocks.py").touch()
    search_once(modules="blocks.py", **{"search.trials": 2})
    (workplace / file).rename(workplace / "elsewhere")
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert f"no such file: {workplace / file}" in result.stderr and f"{key}=FILE" in result.stderr


def test_init_writes_a_study_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.config.spec import load_spec

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.pt").write_bytes(b"")
    (tmp_path / "data.yaml").write_text("path: .\n")
    assert run("init", "model=mine.pt").exit_code == 0
    assert load_spec(tmp_path / "study.yaml").run_name == "mine"


def test_status_ls_and_show_print_all_formats(searched: str) -> None:
    for words in (
        ("status", searched),
        ("ls", searched),
        ("show", f"{searched}:3"),
        ("ls",),
        ("show", f"{searched}:base"),
    ):
        table = run(*words)
        assert table.exit_code == 0, table.output
        assert all(len(line) <= 80 for line in table.stdout.splitlines())
        by_json = json.loads(run(*words, "-f", "json").stdout)
        by_yaml = yaml.safe_load(run(*words, "-f", "yaml").stdout)
        for said in (by_json, by_yaml):
            if isinstance(said, dict):
                said.pop("updated", None)  # the second in which it was drawn
        assert by_json == by_yaml


def test_a_run_is_found_by_its_name_and_by_default(searched: str) -> None:
    assert run("status", "known").stdout == run("status").stdout == run("status", searched).stdout


def test_pick_explains_itself_without_weights(searched: str) -> None:
    result = run("pick", searched)
    assert result.exit_code == 0, result.output
    assert "has the highest mAP50-95" in result.stdout
    assert "weights of trial" in result.stdout and "paretoprune finetune" in result.stdout


def test_pick_writes_its_folder(searched: str) -> None:
    found = json.loads(run("pick", searched, "--knee", "-f", "json").stdout)
    weights = Path(searched) / "trials" / f"{found['trial']:04d}" / "weights.pt"
    weights.write_bytes(b"weights")
    found = json.loads(run("pick", searched, "--knee", "-f", "json").stdout)
    assert (
        json.loads((Path(found["folder"]) / "pick.json").read_text())["trial"]["id"]
        == found["id"]
        == str(found["trial"])
    )


def test_references_name_trials(searched: str) -> None:
    from search.references import resolve

    assert resolve(f"{searched}:3").name == "trial 3"
    assert resolve(f"{searched}:base").trial is None
    assert resolve(f"{searched}:pick").trial == resolve(f"{searched}:edge").trial
    assert resolve(f"{searched}:best@latency_ms<=6").trial == resolve(f"{searched}:edge").trial


def test_report_is_written(searched: str) -> None:
    result = run("report", searched)
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()).read_text().lower().startswith("<!doctype html>")


def test_stop_of_a_run_that_does_notrun(searched: str) -> None:
    assert "is not running" in run("stop", searched).stdout
    with RunLock(Path(searched) / "run.lock"):
        assert "asked pid" in run("stop", searched).stdout
    assert (Path(searched) / "stop.request").is_file()


def test_the_version_is_said_without_a_command() -> None:
    said = run("--version")
    assert said.exit_code == 0 and said.output.startswith("paretoprune ") and said.output.strip()[-1].isdigit()


_WINDOWS = """
import sys, types
sys.modules.update(dict.fromkeys(("fcntl", "resource", "pwd", "grp", "termios")))  # what Windows has not
from search import cli, errors
errors.sys = types.SimpleNamespace(platform="win32")  # Python itself goes on as on this machine
cli.main()
"""


def on_windows(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", _WINDOWS, *words], capture_output=True, text=True, check=False)


def test_on_windows_one_message_names_wsl2() -> None:
    done = on_windows("search", "study.yaml")
    assert done.returncode == 4 and done.stderr.startswith("error: ParetoPrune does not run on Windows itself")
    assert "WSL2" in done.stderr and done.stderr.endswith("next: wsl --install\n") and not done.stdout
    assert "dashboard" in on_windows("--help").stdout


def test_on_windows_the_public_names_say_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import search

    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemUnsupported, match="WSL2"):
        _ = search.Study


def test_a_shell_completes_commands() -> None:
    assert "--install-completion" in run("--help").stdout
    asked = {"_PARETOPRUNE_COMPLETE": "complete_bash", "COMP_WORDS": "paretoprune se", "COMP_CWORD": "1"}
    found = CliRunner().invoke(app, [], prog_name="paretoprune", env=asked)
    assert found.stdout.split() == ["sensitivity", "search"]
