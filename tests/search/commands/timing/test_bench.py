"""`paretoprune bench` on real models and a real runtime; what a run has timed is not timed again."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from objectives.runtimes.open import export_for_timing
from pruning.checkpoints.checkpoint import load_model
from search.commands.progress import StatusLine
from search.commands.timing.bench import bench, order_of
from search.evaluate.timing.latency_cache import LatencyCache, timing_key, widths_digest
from search.present.terminal.bench import render_bench
from search.study import Study
from tests.search.conftest import run
from tests.search.planned import SIZE

FAST = ("seconds=0.3",)


def rows_of(*words: str) -> list[dict[str, Any]]:
    result = run("bench", *words, "-f", "json")
    assert result.exit_code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.stdout)
    return rows


def test_files_are_timed_against_the_first(tiny: Path, planned: Study) -> None:
    small = planned.trial(2)
    export_for_timing(load_model(tiny / "base.pt"), Path("base.onnx"), imgsz=SIZE)
    words = ("base.onnx", str(tiny / "base.pt"), f"planned:{small.trial.number}", f"imgsz={SIZE}", *FAST)  # type: ignore[union-attr]
    for _ in range(5):  # other processes may be busy for a whole measurement
        rows = rows_of(*words)
        assert [row["model"] for row in rows] == ["base.onnx", str(tiny / "base.pt"), "planned:2"]
        reference, same, pruned = rows
        if pruned["ratio"] < same["ratio"]:
            break
    assert (reference["ratio"], reference["interval"]) == (1.0, [1.0, 1.0])
    assert reference["latency_ms"] == reference["p50_ms"] > 0
    assert pruned["ratio"] < same["ratio"] and pruned["latency_ms"] < same["latency_ms"]
    for row in rows:
        assert row["interval"][0] <= row["ratio"] <= row["interval"][1]
        assert row["latency_ms"] == pytest.approx(row["ratio"] * reference["latency_ms"])
        assert 0 < row["p50_ms"] <= row["p90_ms"]
        assert (row["runtime"], row["device"], row["threads"], row["batch"], row["imgsz"]) == (
            *("onnxruntime", "cpu", 1, 1, SIZE),
        )
        assert row["version"] and row["processor"]


def test_a_run_is_its_base_and_its_front_and_is_timed_once(planned: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rows_of("planned", *FAST)
    assert [row["model"] for row in first] == ["planned:base", "planned:2", "planned:3", "planned:1", "planned:0"]
    assert not any(row["cached"] for row in first)
    for path in (planned.record.path / "latency").glob("*.json"):  # a busy machine's flags would ask for another go
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "latency": {**content["latency"], "flags": ["not_settled"]}}))
    monkeypatch.setattr("search.commands.timing.bench.measure", lambda *a, **k: pytest.fail("timed again"))
    again = rows_of("planned", *FAST)
    assert all(row["cached"] for row in again)
    assert [row["ratio"] for row in again] == [row["ratio"] for row in first]
    assert [row["latency_ms"] for row in again] == pytest.approx([row["latency_ms"] for row in first])
    assert rows_of("planned:base", "planned:3", *FAST)[1]["ratio"] == again[2]["ratio"]


def test_other_conditions_are_another_measurement(planned: Study) -> None:
    rows_of("planned:base", "planned:2", *FAST)
    assert not rows_of("planned:base", "planned:2", "threads=2", *FAST)[1]["cached"]
    assert not rows_of("planned:2", "planned:base", *FAST)[1]["cached"], "another reference is another ratio"


def test_equal_widths_are_one_measurement_and_a_disturbed_one_is_none(planned: Study) -> None:
    spec, timings = planned.spec.latency, LatencyCache(planned.record.path / "latency")
    trials = {trial.number: trial.measurement for trial in planned.trials()}
    digests = {number: widths_digest(m.widths) for number, m in trials.items() if m is not None}
    assert digests[1] == digests[3] and trials[1].digest != trials[3].digest  # type: ignore[union-attr]
    assert len(set(digests.values())) == 3 and widths_digest({"a": 1}, ["b"]) != widths_digest({"a": 1})
    (row,) = [row for row in bench(order_of(["planned:base", "planned:1", *FAST])) if not row.model.is_base]
    key = timing_key(spec, digests[3], SIZE, SIZE)
    (path,) = [p for p in timings.folder.glob("*.json") if json.loads(p.read_text())["key"]["widths"] == digests[1]]
    content = json.loads(path.read_text())
    assert content["key"] == key and content["latency"]["ratio"]["value"] == row.ratio.value
    for flags, is_evidence in (([], True), (["not_settled"], True), (["drift"], False), (["foreign_load"], False)):
        path.write_text(json.dumps({**content, "latency": {**content["latency"], "flags": flags}}))
        assert (timings.find(key) is not None) == is_evidence
    assert timings.find({**key, "batch": 2}) is None
    for damaged in ("", "{}", "[]", '{"latency": {"ratio": {"value": NaN, "low": 1, "high": 1}}}'):
        path.write_text(damaged)
        assert timings.find(key) is None


def test_a_trial_in_int8_is_its_file_and_no_twin_of_the_same_widths(
    planned: Study, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = planned.record
    path = record.trial_dir(1) / "candidate.json"
    asked = json.loads(path.read_text())
    path.write_text(json.dumps({**asked, "candidate": {**asked["candidate"], "precision": "int8"}}))
    export_for_timing(load_model(tiny / "base.pt"), record.trial_dir(1) / "weights_int8.onnx", imgsz=SIZE)
    rows_of("planned:base", "planned:1", "seconds=0.1")
    keys = [json.loads(file.read_text())["key"]["precision"] for file in (record.path / "latency").glob("*.json")]
    assert sorted(keys) == ["fp32", "int8"], "trial 3 has as many channels, in float32"
    monkeypatch.setitem(sys.modules, "openvino", None)  # a kit of ONNX files needs it on the device only
    kit = run("bench", "planned", "--bundle", "kit.zip", "runtime=openvino")
    assert kit.exit_code == 2 and "the kit times float32, and the front has trial 1 in int8" in kit.stderr


def test_one_model_alone_is_timed_against_itself(planned: Study) -> None:
    (row,) = rows_of("planned:base", *FAST)
    assert row["latency_ms"] > 0 and row["ratio"] == 1 and row["rounds"] > 0


def test_a_program_times_too(planned: Study) -> None:
    program = Path("time.py")
    program.write_text(f"#!{sys.executable}\nimport os, sys\nprint(os.path.getsize(sys.argv[1]) / 1e6)\n")
    program.chmod(0o755)
    rows = rows_of("planned:base", "planned:2", "runtime=command:./time.py", "seconds=60")
    assert rows[1]["ratio"] < 0.6 and rows[1]["interval"][0] == pytest.approx(rows[1]["interval"][1])
    assert not {"not_settled", "few_rounds"} & set(rows[1]["flags"])  # a busy machine adds a word of its own
    assert rows[1]["runtime"] == "command:./time.py"
    program.write_text("#!/bin/sh\necho no board >&2\nexit 3\n")
    result = run("bench", "planned:base", "planned:0", "runtime=command:./time.py")
    assert result.exit_code == 1 and "exit code 3" in result.stderr and "no board" in result.stderr


def test_several_runtimes_are_timed_in_one_measurement(planned: Study) -> None:
    rows = rows_of("planned:base", "planned:2", "runtime=onnxruntime,torchscript", "seconds=0.2")
    assert [(row["model"], row["runtime"]) for row in rows] == [
        (model, runtime) for model in ("planned:base", "planned:2") for runtime in ("onnxruntime", "torchscript")
    ]
    assert rows[0]["ratio"] == 1 and not any(row["cached"] for row in rows)
    assert all(row["latency_ms"] == pytest.approx(row["ratio"] * rows[0]["latency_ms"]) for row in rows)
    assert len({row["version"] for row in rows}) == 2
    assert not list((planned.record.path / "latency").glob("*.json")), "ratios between runtimes are none of the run's"


def test_the_table_names_the_runtime_of_each_row() -> None:
    row = {
        "model": "a.pt",
        "imgsz": 64,
        "p50_ms": 1.0,
        "p90_ms": 1.0,
        "ratio": 1.0,
        "interval": [1.0, 1.0],
        "flags": [],
    }
    row |= {"cached": False, "device": "cpu", "threads": 1, "batch": 1, "processor": "x"}
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_bench([{**row, "runtime": name, "version": "1.2"} for name in ("ncnn", "mnn")]))
    lines = console.export_text().splitlines()
    assert "runtime" in lines[0] and "ncnn" in lines[1] and "mnn" in lines[2] and "ncnn 1.2, mnn 1.2, cpu" in lines[4]
    console.print(render_bench([{**row, "runtime": "ncnn", "version": "1.2"}]))
    assert "runtime" not in console.export_text()


def test_a_file_is_timed_on_the_runtime_that_opens_it(tiny: Path) -> None:
    model = load_model(tiny / "base.pt")
    for runtime, name in (("onnxruntime", "a.onnx"), ("torchscript", "a.torchscript")):
        export_for_timing(model, Path(name), imgsz=SIZE, runtime=runtime)
    rows = rows_of("a.torchscript", "a.onnx", "seconds=0.1")
    assert [(row["runtime"], row["imgsz"]) for row in rows] == [("torchscript", SIZE), ("onnxruntime", SIZE)]
    result = run("bench", "a.torchscript", "a.onnx", "runtime=onnxruntime")
    assert result.exit_code == 2 and "a.torchscript is opened by torchscript only" in result.stderr


def test_the_table_says_on_what(planned: Study) -> None:
    shown = run("bench", "planned:base", "planned:2", *FAST)
    assert shown.exit_code == 0
    assert "reference" in shown.stdout and "onnxruntime" in shown.stdout and "1 thread" in shown.stdout
    assert "exporting" not in shown.stdout and "planned:2" in shown.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "no model was named"),
        (("nowhere.onnx",), 2, "no such file: nowhere.onnx"),
        (("planed",), 2, "no run at"),
        (("planned:9",), 2, "has no trial 9"),
        (("planned:best@latency_ms<=1",), 3, "The closest is"),
        (("planned", "runtimes=torch"), 2, "did you mean: runtime"),
        (("planned", "runtime=onnx"), 2, "Did you mean onnxruntime"),
        (("planned", "runtime=onnxruntime,nccn"), 2, "Did you mean ncnn"),
        (("planned", "threads=0"), 2, "threads="),
        (("planned", "imgsz=big"), 2, "not a size in pixels"),
        (("planned", "imgsz=16,640"), 2, "for example 640, or 384,640 (height, width)"),
        (("planned", "runtime=tensorrt"), 4, "pip install tensorrt"),
        (("planned", "runtime=mnn", "device=0"), 2, "mnn is timed on the CPU"),
        (("planned", "runtime=command:./nowhere"), 4, "name a program that is there"),
        (("planned", "-f", "xml"), 2, "table, json, yaml"),
        (("planned", "--bundle", "a.zip", "--import", "b.json"), 2, "exclude each other"),
        (("planned", "--name", "a"), 2, "belongs to --import"),
    ],
)
def test_usage(planned: Study, words: tuple[str, ...], code: int, said: str) -> None:
    result = run("bench", *words)
    assert result.exit_code == code, result.output
    assert said in result.stderr.replace("\n", " ") or said in result.stderr


def test_progress_has_an_end_and_nothing_of_it_on_stdout(planned: Study) -> None:
    heard: list[tuple[str, float | None]] = []
    bench(order_of(["planned:base", "planned:0", *FAST]), lambda what, left_s: heard.append((what, left_s)))
    left = [seconds for what, seconds in heard if what == "timing"]
    assert left and all(seconds is not None and 0 <= seconds <= 0.3 for seconds in left)
    assert {what for what, _ in heard} >= {"opening planned:base", "opening planned:0"}


def test_without_a_terminal_a_line_is_said_when_the_work_changes(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with StatusLine(now=lambda: now[0]) as say:
        for now[0] in (0.0, 1.0, 49.0, 51.0):
            say("timing", 100 - now[0])
        say("opening x")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["timing, at most 2 min left", "timing, at most 49 s left", "opening x"]
