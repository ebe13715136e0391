"""`command:` as a runtime: real programs, written by the tests."""

from __future__ import annotations

import os
import pickle
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives import BackendMissing, CommandFailed, LatencyError
from objectives.latency.protocol import compare
from objectives.runtimes.command_runner import CommandRunner, reading_of
from objectives.runtimes.open import open_runner, open_side
from tests.objectives.rectangles import SIZE
from tests.waiting import is_gone, until


def program(folder: Path, body: str, name: str = "time.py") -> Path:
    path = folder / name
    path.write_text(f"#!{sys.executable}\nimport json, os, subprocess, sys, time\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def runner(
    folder: Path, body: str, *, words: str = "", timeout_s: float = 20.0, model: str = "m.onnx"
) -> CommandRunner:
    (folder / model).write_bytes(b"graph")
    runtime = f"command:{program(folder, body)} {words}"
    return CommandRunner(folder / model, runtime=runtime, imgsz=64, threads=2, batch=1, timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("5.5", [5.5]),
        ("5\n6.25\n\n7e0\n", [5.0, 6.25, 7.0]),
        ('{"latency_ms": [1, 2.5], "board": "x"}', [1.0, 2.5]),
        ('{"latency_ms": 4}', [4.0]),
        ('[3.0, "4"]', [3.0, 4.0]),
        ('loading the model\nready\n{"latency_ms": [8]}\n', [8.0]),
        ('{\n "latency_ms": [\n  1,\n  2\n ]\n}', [1.0, 2.0]),
    ],
)
def test_milliseconds_that_are_understood(printed: str, expected: list[float]) -> None:
    assert list(reading_of(printed).milliseconds) == expected


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("", "printed no number"),
        ("[]", "printed no number"),
        ("mean: 5 ms", "printed 'mean: 5 ms'; expected milliseconds"),
        ("5\nnan", "finite number of milliseconds above 0"),
        ("inf", "finite"),
        ("0", "above 0"),
        ("-3", "above 0"),
        ("true", "printed 'true'"),
        ('{"latency_ms": [true]}', "finite"),
        ('{"latency_ms": [NaN]}', "finite"),
        ('{"latency_ms": null}', "printed '{"),
        ('{"ms": 5}', 'without "latency_ms", with: ms'),
    ],
)
def test_garbage_is_refused(printed: str, said: str) -> None:
    with pytest.raises(ValueError, match="printed") as caught:
        reading_of(printed)
    assert said in str(caught.value)


@given(st.text(max_size=60))
def test_no_output_gives_anything_but_times_or_a_refusal(printed: str) -> None:
    try:
        times = reading_of(printed).milliseconds
    except ValueError:
        return
    assert times and all(0 < found < float("inf") for found in times)


def test_the_program_gets_the_model_and_what_it_asks_for(tmp_path: Path) -> None:
    said = "print(len(sys.argv)); open('said', 'w').write(json.dumps(sys.argv[1:]))"
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        runner(tmp_path, said).run()
        appended = (tmp_path / "said").read_text()
        runner(tmp_path, said, words="--m={model} -t {threads} '{imgsz} x'").run()
    finally:
        os.chdir(here)
    assert appended == f'["{tmp_path}/m.onnx"]'
    assert (tmp_path / "said").read_text() == f'["--m={tmp_path}/m.onnx", "-t", "2", "64 x"]'


def test_a_size_of_two_sides_is_one_word_and_two_numbers(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"runtime": f"command:{sys.executable} {{imgsz}} {{height}} {{width}} {{model}}"}
    own = CommandRunner(tmp_path / "m.onnx", **asked, imgsz=(384, 640), threads=1, batch=1)
    assert own._words[1:] == ["384x640", "384", "640", f"{tmp_path}/m.onnx"]
    assert own.describe()["imgsz"] == "384x640"


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    """A file name, or a word of the command, that a shell would run is a plain word."""
    name = "a; touch owned $(touch owned) .onnx"
    said = "print(1.0); open(os.path.join(os.path.dirname(sys.argv[0]), 'said'), 'w').write(json.dumps(sys.argv[1:]))"
    runner(tmp_path, said, words="'; touch owned' {model}", model=name).run()
    assert (tmp_path / "said").read_text() == f'["; touch owned", "{tmp_path / name}"]'
    assert not list(tmp_path.rglob("owned")) and not Path("owned").exists()


@pytest.mark.parametrize(
    ("body", "reason", "said"),
    [
        (
            "print('connecting'); sys.exit('no route to host')",
            "exit",
            "exit code 1.*\n.*connecting\n.*no route",
        ),
        ("print('warm-up done')", "output", "printed 'warm-up done'.*\n.*warm-up done"),
        ("pass", "output", "it printed nothing"),
        ("print('waiting', flush=True); time.sleep(60)", "timeout", "did not end within 0.5 s.*\n.*waiting"),
        ("os.kill(os.getpid(), 9)", "exit", "exit code -9"),
        ("sys.stdout.buffer.write(bytes(range(128, 256)))", "output", "printed"),
    ],
)
def test_failures_are_typed_and_show_the_last_lines(tmp_path: Path, body: str, reason: str, said: str) -> None:
    timed = runner(tmp_path, body, timeout_s=0.5 if reason == "timeout" else 20)
    with pytest.raises(CommandFailed, match=said) as caught:
        timed.run()
    assert caught.value.reason == reason and isinstance(caught.value, LatencyError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reason, again.tail) == (str(caught.value), reason, caught.value.tail)


def test_a_time_out_ends_what_the_program_started(tmp_path: Path) -> None:
    body = (
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\ntime.sleep(600)"
    )
    with pytest.raises(CommandFailed, match="did not end"):
        runner(tmp_path, body, timeout_s=2).run()
    child = int((tmp_path / "child").read_text())
    until(lambda: is_gone(child), "what it started runs on")  # killed, on a busy machine it dies a moment later


def test_a_program_that_cannot_run_is_named_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BackendMissing, match="name a program that is there"):
        CommandRunner(tmp_path, runtime="command:/nowhere/time.sh", imgsz=64, threads=1, batch=1)
    (tmp_path / "plain.sh").write_text("echo 1")
    with pytest.raises(BackendMissing, match=r"chmod \+x"):
        CommandRunner(tmp_path, runtime=f"command:{tmp_path}/plain.sh", imgsz=64, threads=1, batch=1)
    for runtime, said in (("command:", "names no program"), ("command:'a", "Quote as in a shell")):
        with pytest.raises(LatencyError, match=said):
            open_runner(tmp_path, runtime=runtime, imgsz=64)


def test_base_and_candidate_are_timed_in_turns_by_the_same_program(tmp_path: Path) -> None:
    """The board becomes slower from call to call: only interleaved calls see the true ratio of 0.8."""
    calls = tmp_path / "calls"
    calls.touch()
    body = (
        f"calls = open({str(calls)!r}).read().split()\nopen({str(calls)!r}, 'a').write(sys.argv[1][-6:-5] + ' ')\n"
        "drift = 1 + 0.02 * len(calls)\nslow = {'a': 0.8, 'b': 1.0}[sys.argv[1][-6:-5]]\n"
        "print(100 * slow * drift)\nprint(104 * slow * drift)"
    )
    sides = [runner(tmp_path, body, model=f"{name}.onnx") for name in "ab"]
    result = compare(*sides, cap_s=60)
    order = "".join(calls.read_text().split())
    assert order[:2] == "ba" and set(order[2:].split("b")) <= {"", "a"}, "every candidate stands between two references"
    assert result.ratio.value == pytest.approx(0.8, rel=0.003)
    assert 0.8 * 100 < result.p50_ms < result.reference_ms
    assert "drift" in result.flags and "not_settled" not in result.flags


def test_a_module_is_exported_once_and_its_file_disappears_with_the_runner(tiny_yolo: object, tmp_path: Path) -> None:
    body = f"open({str(tmp_path / 'path')!r}, 'w').write(sys.argv[1]); print(os.path.getsize(sys.argv[1]) / 1e6)"
    side = open_side(tiny_yolo, 6, runtime=f"command:{program(tmp_path, body)}", imgsz=SIZE)  # type: ignore[arg-type]
    assert len(side) == 1
    side[0].run()
    exported = Path((tmp_path / "path").read_text())
    assert exported.is_file() and exported.suffix == ".onnx"
    del side
    assert not exported.parent.exists()
