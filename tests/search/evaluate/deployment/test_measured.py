"""A real search by end-to-end latency and memory, and one by what a program prints."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from objectives.errors import CommandFailed
from objectives.objective import Estimate
from objectives.resources import peak_memory
from search.commands import check as checking
from search.config.spec import load_spec
from search.evaluate.baselines import Baseline
from search.evaluate.deployment.measured import further_costs
from search.evaluate.deployment.pictures import FILE, recorded_pictures
from search.prepare.prepare import prepare_in_child
from search.study import Study
from search.trial import FinalLatency, TrialState
from tests.search.conftest import run

TINY: dict[str, Any] = {
    "imgsz": 64,
    "device": "cpu",
    "name": "tiny",
    "space.levels": ["P5"],
    "recover.epochs": 0,
    "latency.seconds": 0.2,
    "search.trials": 2,
    "search.sampler": "random",
    "baselines": [],
}


@pytest.fixture
def tiny_study(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return {"model": str(tiny / "base.pt"), "data": str(tiny / "data" / "data.yaml"), **TINY}


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory by one process instead of three: a figure without an interval is enough here."""
    monkeypatch.setattr(peak_memory, "PROCESSES", 1)


NAMED = {"objectives": ["map50_95", "e2e_ms"], "budgets": {"small": {"memory_mb": 1e4, "e2e_ms": "80%"}}}


@pytest.mark.usefixtures("one_process")
def test_what_the_study_names_is_measured_of_base_trial_and_front(tiny_study: dict[str, Any]) -> None:
    study = Study(**tiny_study, **NAMED)
    (base_dir := study.record.base_dir).mkdir(parents=True)
    prepared = prepare_in_child(study.spec, base_dir, None)
    base, reference = prepared.base, prepared.evaluator.reference
    assert base.figures["e2e_ms"].is_exact and base.figures["e2e_ms"].value > 0
    assert reference.further == {name: base.figures[name].value for name in ("e2e_ms", "memory_mb")}
    _the_pictures_are_recorded(study)
    candidate = prepared.space.smallest()
    assert candidate.removed, "its boxes are those of the levels that it has"
    (folder := study.record.trial_dir(0)).mkdir(parents=True)
    found = prepared.evaluator.evaluate(candidate, 0, 0, folder)
    facts = found.timing["further"]
    ratio = facts["e2e_ms"]["figure"]["value"]
    assert facts["e2e_ms"]["relative"] and found.figures["e2e_ms"].value == pytest.approx(
        ratio * base.figures["e2e_ms"].value
    )
    assert 10 < found.figures["memory_mb"].value < base.figures["memory_mb"].value
    assert "energy_mj" not in found.figures
    assert prepared.final is not None
    (together := study.record.path / "together").mkdir()
    final = prepared.final.together({0: candidate}, 0, together)[0]
    assert final.further.keys() == {"e2e_ms"} and final.timing["further"].keys() == {"e2e_ms"}
    assert FinalLatency.from_json(json.loads(json.dumps(final.to_json()))) == final
    for timed in (facts["e2e_ms"]["facts"], final.timing["further"]["e2e_ms"]["facts"]):
        assert timed["rounds"] % 6 == 0, "each picture equally often, whatever the cap"
        assert not {"drift", "throttling", "noisy"} & {*timed["flags"]}, "pictures differ, on the quietest machine too"
    predicted = prepared.evaluator._predicted_end_to_end(Estimate(1.0, 0.5, 1.5))["e2e_ms"]
    around = max(0.0, base.figures["e2e_ms"].value - base.figures["latency_ms"].value)
    assert (predicted.low, predicted.value, predicted.high) == pytest.approx((0.5 + around, 1 + around, 1.5 + around))


@pytest.mark.slow  # beside the test above: the same by a whole search
def test_a_search_by_end_to_end_latency_and_memory(tiny_study: dict[str, Any]) -> None:
    """Named by an objective and a budget; picked by a share of the base's."""
    study = Study(**tiny_study, **NAMED).search()
    trials, base = study.trials(), study.base()
    assert base is not None and [trial.state for trial in trials] == [TrialState.COMPLETE] * 2, trials
    for trial in trials:
        assert trial.measurement is not None and trial.figures["memory_mb"].value > 10
        assert trial.measurement.timing["further"].keys() == {"e2e_ms", "memory_mb"}
    rows = list(csv.DictReader((study.record.path / "results.csv").read_text().splitlines()))
    assert all(float(row["e2e_ms"]) > 0 and float(row["memory_mb"]) > 10 for row in rows)
    picked = run("pick", "tiny", "--max", "e2e_ms=1000%", "-f", "json")
    assert picked.exit_code == 0, picked.output
    assert "e2e_ms<=" in json.loads(picked.stdout)["sentence"]


def _the_pictures_are_recorded(study: Study) -> None:
    record = json.loads((study.record.base_dir / FILE).read_text())
    boxes = [row["boxes"] for row in record["pictures"]]
    assert len(boxes) == 6 and record["looked_at"] == 6
    assert boxes == [sorted(boxes)[place] for place in (2, 3, 1, 4, 0, 5)], "from the middle outwards"
    files = recorded_pictures(study.record.base_dir)
    assert all(Path(file).is_file() and "val" in file for file in files)


PROGRAM = """
import json, os, sys
size = os.path.getsize(sys.argv[1]) / 1e6
said = {"latency_ms": [size], "e2e_ms": size + 1, "memory_mb": 20 + size, "temperature_c": 40 + size, "board": "pi5"}
if os.path.exists(__file__ + ".quiet"):
    del said["memory_mb"]
print(json.dumps(said))
"""


def test_a_program_measures_what_the_study_declares(tiny_study: dict[str, Any]) -> None:
    (program := Path.cwd() / "time.py").write_text(f"#!{sys.executable}\n{PROGRAM}")
    program.chmod(0o755)
    words = {"latency.runtime": f"command:{program}", "figures": {"temperature_c": {"unit": "C", "direction": "min"}}}
    study = Study(**{**tiny_study, **words, "objectives": ["map50_95", "e2e_ms", "temperature_c"]})
    (base_dir := study.record.base_dir).mkdir(parents=True)
    prepared = prepare_in_child(study.spec, base_dir, None)
    size = prepared.base.figures["size_mb"].value
    figures = {name: prepared.base.figures[name].value for name in ("latency_ms", "e2e_ms", "temperature_c")}
    assert figures == pytest.approx({"latency_ms": size, "e2e_ms": size + 1, "temperature_c": 40 + size})
    (folder := study.record.trial_dir(0)).mkdir(parents=True)
    found = prepared.evaluator.evaluate(prepared.space.uniform(0.5), 0, 0, folder)
    small = found.figures["size_mb"].value
    assert small < size and found.figures["e2e_ms"].value == pytest.approx(small + 1)
    assert found.figures["memory_mb"].value == pytest.approx(20 + small), "printed, though nobody named it"
    assert found.figures["temperature_c"].value == pytest.approx(40 + small)
    Path(f"{program}.quiet").touch()
    (folder := study.record.trial_dir(1)).mkdir(parents=True)
    found = prepared.evaluator.evaluate(prepared.space.uniform(0.3), 1, 0, folder)
    assert found.figures.keys() >= {"e2e_ms", "temperature_c"} and "memory_mb" not in found.figures, "nobody named it"
    assert prepared.final is not None
    for row in (
        Baseline("at 32", "lower_size", "at-32", imgsz=32),
        Baseline("plain", "fp32", "plain", precision="fp32"),
    ):
        (work := study.record.path / row.slug).mkdir()
        assert "e2e_ms" in prepared.final.baseline(row, 0, work).figures


def test_a_program_that_leaves_a_named_figure_out_is_refused(workplace: Path) -> None:
    spec = load_spec(workplace / "study.yaml", {"latency.runtime": "command:true"})
    silent: Any = SimpleNamespace(runners=(), file=workplace, origin=None, imgsz=64)
    assert further_costs(spec, silent, silent, [], (), seed=0) == {}
    with pytest.raises(CommandFailed, match=r'printed no memory_mb in some call.*"memory_mb": 12.3'):
        further_costs(spec, silent, silent, ["memory_mb"], (), seed=0)


@pytest.mark.usefixtures("one_process")
def test_check_says_what_can_be_reached_end_to_end(
    tiny_study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "_measured_trial_s", lambda *a: None)
    budgets = {"easy": {"e2e_ms": 1e6}, "never": {"memory_mb": 1}}
    spec = Study(**{**tiny_study, "budgets": budgets}).spec
    (folder := tmp_path / "checked").mkdir()
    facts = checking.check_in_child(spec, folder, None)
    assert {"e2e_ms", "memory_mb"} <= facts["reach"].keys() and facts["reach"]["e2e_ms"]["base"] > 0
    assert facts["reach"]["memory_mb"]["least"] < facts["reach"]["memory_mb"]["base"]
    said = {name: (found["reachable"], found["by_base"]) for name, found in facts["budgets"].items()}
    assert said == {"easy": (True, True), "never": (False, False)}
