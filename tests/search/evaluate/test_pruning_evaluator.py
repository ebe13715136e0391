"""The real evaluator on a tiny model and data set: what is measured is what is delivered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from objectives.runtimes.names import file_suffix
from pruning import Plan
from pruning.checkpoints.checkpoint import count_parameters, load_model
from search.config.sections import RecoverSpec
from search.config.spec import load_spec
from search.evaluate import pruning_evaluator
from search.evaluate.baselines import baseline_rows
from search.evaluate.data_record import data_digest
from search.evaluate.deployment import measured as measured_costs
from search.evaluate.pruning_evaluator import PruningEvaluator
from search.evaluate.timing.progress import Phases
from search.evaluate.workload import accuracy_of
from search.prepare.prepare import prepare_in_child
from search.results.baseline_results import read_rows
from search.run_folder.artefact_files import size_bytes
from search.space import Space
from search.study import Study
from search.trial import Candidate, Measurement, Promotion, TrialState
from tests import shelf
from tests.objectives.runtimes import contract
from tests.search.conftest import run
from tests.search.hearing import noting
from tests.tiny_data import make_tiny_data

TINY: dict[str, Any] = {
    "imgsz": 64,
    "device": "cpu",
    "name": "tiny",
    "space.depth": True,
    "space.levels": ["P5"],
    "recover.epochs": 1,
    "recover.batch": 6,
    "latency.seconds": 0.2,
    "search.trials": 2,
    "search.sampler": "random",
    "baselines": [],  # those of the last test but one
}


@pytest.fixture
def tiny_study(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return {"model": str(tiny / "base.pt"), "data": str(tiny / "data" / "data.yaml"), **TINY}


def test_a_search_measures_the_checkpoints_that_it_delivers(tiny_study: dict[str, Any]) -> None:
    tiny_study["data"] = str(make_tiny_data(Path.cwd() / "data"))
    (Path.cwd() / "data" / "images" / "train" / "007.png").write_bytes(b"garbage")
    notes: list[str] = []
    study = Study(**tiny_study, **{"keep.weights": "all", "recover.slimming": 1e-3})
    study.search([noting(notes)])
    assert any("1 of 12 training images left out" in note and "train/007.png" in note for note in notes)
    for trial in study.trials():
        assert trial.state == TrialState.COMPLETE, trial.error
        assert trial.measurement is not None and trial.measurement.plan is not None
        folder = study.record.trial_dir(trial.number)
        measured = accuracy_of(folder / "weights.pt", study.spec, 64, "cpu", folder / "again")
        assert measured.figures["map50_95"] == trial.measurement.figures["map50_95"]
        assert Plan.from_json(trial.measurement.plan).removed == tuple(sorted(trial.candidate.removed))
        assert sorted(path.name for path in folder.glob("*") if path.is_file()) == [
            *("candidate.json", "progress.json", "result.json", "train.log", "weights.pt"),
        ]
    assert any(trial.candidate.removed for trial in study.trials())
    _exported_with_its_card(study)
    before = (label := Path.cwd() / "data" / "labels" / "val" / "001.txt").read_text()
    label.write_text("0 0.5 0.5 0.25 0.25\n")
    refused = run("export", "tiny:0")
    assert refused.exit_code == 5 and "val: other labels: 1 of 6 (images/val/001.png)" in refused.output
    label.write_text(before)
    base = study.base()
    assert base is not None and {"load", "trace", "latency", "accuracy"} <= base.seconds.keys()
    assert (
        base.figures["map50_95"]
        == accuracy_of(Path(study.spec.model), study.spec, 64, "cpu", study.record.path / "again").figures["map50_95"]
    )
    shown = run("show", f"tiny:{next(t.number for t in study.trials() if t.candidate.removed)}").stdout
    assert "removed" in shown and "model." in shown
    tiny_study |= {"recover.slimming": 1e-3, "keep.weights": "none", "search.trials": 3}
    last = Study(**tiny_study).search().trials()[-1]
    assert last.state == TrialState.COMPLETE and not list(study.record.path.rglob("*.pt"))
    label.write_text("0 0.5 0.5 0.25 0.25\n")
    for command in (("resume", "tiny", "search.trials=4"), ("finetune", "tiny:0")):
        refused = run(*command)
        assert refused.exit_code == 5 and "val: other labels: 1 of 6 (images/val/001.png)" in refused.output, command


def test_a_trial_that_begins_again_is_not_timed_again(
    tiny_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what resume does with a trial that was cut off after its latency."""
    study = Study(**{**tiny_study, "recover.epochs": 0})
    (base_dir := study.record.base_dir).mkdir(parents=True)
    prepared = prepare_in_child(study.spec, base_dir, None)
    candidate = prepared.space.uniform(0.5)
    first = _evaluated(prepared.evaluator, candidate, study.record.trial_dir(0))
    ratio = first.timing["ratio"]["value"]  # below 1, but not on a machine that stalls in mid-measurement
    assert first.timing["runtime"] == "onnxruntime" and ratio > 0
    assert first.figures["latency_ms"].value == pytest.approx(
        ratio * prepared.base.figures["latency_ms"].value, rel=1e-3
    )
    for path in (study.record.path / "latency").glob("*.json"):  # a busy machine's flags would ask for another go
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "latency": {**content["latency"], "flags": []}}))
    monkeypatch.setattr(measured_costs, "compare", lambda *a, **k: pytest.fail("timed again"))
    further = candidate.promoted(Promotion(0, 1, 1))
    assert prepared.evaluator.pruned(further).key != prepared.evaluator.pruned(candidate).key
    again = _evaluated(prepared.evaluator, further, study.record.trial_dir(1))
    assert again.figures["latency_ms"] == first.figures["latency_ms"]
    assert (again.plan, first.epochs, again.epochs) == (first.plan, 0, 2)
    assert any("promoted: 2 epochs in all, goes on where trial 0 ended" in note for note in again.notes)
    with pytest.raises(pytest.fail.Exception, match="timed again"):
        _evaluated(prepared.evaluator, prepared.space.uniform(0.7), study.record.trial_dir(2))


def test_the_last_steps_give_signs_of_life(tiny_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """While the front is exported, opened and timed, and while a row is validated: who gives none is ended."""
    study = Study(**{**tiny_study, "imgsz": 96})
    (base_dir := study.record.base_dir).mkdir(parents=True)
    prepared = prepare_in_child(study.spec, base_dir, None)
    beats: list[str] = []
    monkeypatch.setattr(Phases, "beat", lambda phase: beats.append(phase._current))
    assert prepared.final is not None
    (together := study.record.path / "together").mkdir()
    candidates = {number: prepared.space.uniform(0.1 * number) for number in (3, 5)}
    assert prepared.final.together(candidates, 0, together).keys() == {3, 5}
    assert beats.count("export") == beats.count("latency") == 2, "each export, each opening"
    assert beats.count("") >= 1, "each round of the timing"
    beats.clear()
    (row,) = baseline_rows(["lower_size"], prepared.space, 96, 0)
    (folder := study.record.path / "row").mkdir()
    assert prepared.final.baseline(row, 0, folder).figures and beats.count("accuracy") >= 1
    study.record.discard_preparation()
    left = [*base_dir.rglob("*"), *(study.record.path / "latency").rglob("*")]
    assert [path.name for path in left if path.is_file()] == ["progress.json"], "all else is known by name"


@pytest.mark.slow  # beside tests/search/evaluate/timing/test_latency.py
@pytest.mark.parametrize("runtime", ["torchscript", "ncnn", "mnn"])
def test_a_study_on_a_runtime_with_files_of_its_own(tiny_study: dict[str, Any], runtime: str) -> None:
    contract.skip_unless_installed(runtime)
    study = Study(**{**tiny_study, "recover.epochs": 0, "latency.runtime": runtime})
    (base_dir := study.record.base_dir).mkdir(parents=True)
    prepared = prepare_in_child(study.spec, base_dir, None)
    name = f"base{file_suffix(runtime)}"
    assert (base_dir / name).exists() and not (base_dir / "base.onnx").exists()
    candidate, folder = prepared.space.uniform(0.5), study.record.trial_dir(0)
    measured = _evaluated(prepared.evaluator, candidate, folder)
    assert measured.timing["runtime"] == runtime and measured.timing["version"]
    assert measured.figures["size_mb"].value < 0.6 * size_bytes(base_dir / name) / 1e6, "of the timed file"
    assert not [path.name for path in folder.iterdir() if path.name.startswith("timing")]
    assert prepared.final is not None
    (together := study.record.path / "together").mkdir()
    assert prepared.final.together({3: candidate}, 0, together).keys() == {3}
    assert {path.name for path in together.iterdir()} == {"progress.json"}
    study.record.discard_preparation()
    assert not (base_dir / name).exists()


def test_a_trial_that_validates_lets_others_time_before_every_batch(tiny_study: dict[str, Any], tmp_path: Path) -> None:
    pauses: list[int] = []
    spec, weights = Study(**tiny_study).spec, Path(tiny_study["model"])
    found = accuracy_of(weights, spec, 64, "cpu", tmp_path / "a", None, lambda: pauses.append(1))
    assert len(pauses) >= found.images / 32
    assert found.figures == accuracy_of(weights, spec, 64, "cpu", tmp_path / "b").figures


def _evaluated(evaluator: Any, candidate: Any, folder: Path) -> Measurement:
    folder.mkdir(parents=True)
    found: Measurement = evaluator.evaluate(candidate, 0, 0, folder)
    return found


def test_check_says_what_can_be_reached_and_how_long_it_takes(tiny_study: dict[str, Any]) -> None:
    budgets = {"budgets.easy.latency_ms": 1e6, "budgets.half.params_m": 1.5, "budgets.never.params_m": 1e-6}
    words = [f"{key}={value}" for key, value in {**tiny_study, **budgets, "search.trials": 100}.items()]
    result = run("check", *words, "-f", "json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["blocks"] == ["model.2.m.0", "model.4.m.0", "model.4.m.1", "model.6.m.0", "model.6.m.1", "model.8.m.0"]
    assert facts["levels"]["offered"] == ["P5"] and sum(facts["levels"]["shares"].values()) == pytest.approx(1.0)
    assert all(found["least"] < found["base"] for found in facts["reach"].values())
    assert 1 < facts["time"]["trial_s"] < 60 and facts["time"]["trials"] == 100
    assert facts["time"]["total_s"] == pytest.approx(100 * facts["time"]["trial_s"])
    said = {name: (found["reachable"], found["by_base"]) for name, found in facts["budgets"].items()}
    assert said == {"easy": (True, True), "half": (True, False), "never": (False, False)}
    assert not Path("runs").exists()


def test_what_the_study_says_about_recovery_gets_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from search.evaluate.timing.progress import Phases

    (tmp_path / "base.pt").touch()
    (tmp_path / "data.yaml").touch()
    keys = {"recover.lr0": 0.5, "recover.slimming": 0.01, "recover.distill": False, "recover.batch": 7}
    paths = {"model": str(tmp_path / "base.pt"), "data": str(tmp_path / "data.yaml")}
    spec, calls = load_spec(None, {**paths, **keys}), []
    monkeypatch.setattr(pruning_evaluator, "repair", lambda *words, **named: calls.append((words, named)))
    pruning_evaluator.repair_by(spec, torch.nn.Identity(), "cpu", 96, 5, tmp_path, Phases(tmp_path), None)
    (_, data, recovery), named = calls[0]
    assert data == spec.data and named["base"] == Path(spec.model)
    assert (recovery.slimming, recovery.distill, recovery.batch, recovery.seed) == (0.01, False, 7, 5)
    assert recovery.train == {"lr0": 0.5}
    assert pruning_evaluator.recovery_of(RecoverSpec(), imgsz=64, device="cpu", seed=0).train == {}


def test_a_promotion_goes_on_with_the_weights_of_its_trial_or_has_all_epochs_from_the_base(
    tiny_study: dict[str, Any], tmp_path: Path
) -> None:
    spec, reference, nothing = Study(**tiny_study).spec, SimpleNamespace(run=tmp_path / "run"), cast(Any, None)
    evaluator = PruningEvaluator(spec, nothing, {}, nothing, cast(Any, reference), "cpu")
    sliced, own = torch.nn.Identity(), Candidate({"stem": 0.5})
    further = own.promoted(Promotion(7, 4, 8))
    assert evaluator._start(own, sliced) == (sliced, 0, spec.recover)
    start, had, recover = evaluator._start(further, sliced)
    assert (start, had, recover.epochs, recover.spend) == (sliced, 0, 12, "equal"), "its weights are gone"
    folder = tmp_path / "run" / "trials" / "0007"
    folder.mkdir(parents=True)
    shutil.copy(tiny_study["model"], folder / "weights.pt")
    start, had, recover = evaluator._start(further, sliced)
    assert start is not sliced and count_parameters(start) == count_parameters(load_model(tiny_study["model"]))
    assert (had, recover.epochs, recover.spend) == (4, 8, "equal")
    start, had, recover = evaluator._start(further.from_base(), sliced)
    assert (start, had, recover.epochs) == (sliced, 0, 12), "a repeat with another seed needs no other trial"


def test_a_plan_rebuilds_the_model_bit_for_bit(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = f"model={tiny / 'base.pt'}"
    how = ("ratio=0.4", "imgsz=64", "ranking=global", "importance=l1", "removed=model.4.m.1,model.8.m.0", "out=one")
    made = run("prune", model, *how, "-f", "json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["removed"] == ["model.4.m.1", "model.8.m.0"]
    again = run("prune", model, "plan=one/plan.json", "out=two")
    assert again.exit_code == 0 and "without model.4.m.1, model.8.m.0" in again.stdout
    first, second = (load_model(f"{name}/pruned.pt").state_dict() for name in ("one", "two"))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert Path("one/plan.json").read_text() == Path("two/plan.json").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model=other.pt", "plan=plan.json"), "made for another model"),
        (("model=base.pt", "plan=data/data.yaml"), "not a plan"),
        (("model=base.pt", "plan=base.pt"), "cannot be read"),
        (("model=base.pt", "ratio=0.3", "removed=model.9.m.0"), "those are P3, P4, P5, model.2.m.0"),
        (("model=base.pt", "ratio=0.3", "importance=l3"), "is not one of l1"),
        (("model=base.pt", "ratio=0.3", "out=base.pt/below"), "cannot write to"),
    ],
)
def test_a_prune_that_cannot_be_done_writes_nothing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: str
) -> None:
    monkeypatch.chdir(tiny)
    if not (tiny / "plan.json").exists():
        (tiny / "plan.json").write_text('{"kept": {}, "fingerprint": "0", "example_shape": [1], "removed": []}')
    before = sorted(tiny.iterdir())
    result = run("prune", *words, *(["imgsz=64"] if "ratio=0.3" in words else []))
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and expected in result.stderr
    assert "Traceback" not in result.output and sorted(tiny.iterdir()) == before


def _exported_with_its_card(study: Study) -> None:
    """An export leaves the artefact, its report and a card that names what it was made from."""
    picked = study.trial(0)
    picked.export("onnx")
    assert {"weights.onnx", "export.json", "model_card.md"} <= {path.name for path in picked.folder.iterdir()}
    card = (picked.folder / "model_card.md").read_text()
    _, prints = study.record.read_args()
    assert picked.trial is not None and picked.trial.measurement is not None
    data = str(data_digest(study.record.path))
    for piece in (prints["model"], data, picked.trial.measurement.digest, "format=onnx", "AGPL-3.0"):
        assert piece in card


def test_what_comes_after_the_last_trial_is_measured_on_real_models(tiny_study: dict[str, Any], tiny: Path) -> None:
    """Rows of three kinds, the front timed together, and a pick trained twice."""
    keys = {"imgsz": 96, "search.trials": 1, "search.confirm": 2, "recover.epochs": 1}
    rows = ["lower_size", {"sibling": str(tiny / "base.pt")}]
    study = Study(**{**tiny_study, **keys, "baselines": rows}).search()
    assert study.state() == "finished"
    found = {row.name: row for row in read_rows(study.record)}
    assert found.keys() == {"the base at 64 px", "base.pt"}  # half of 96 px is no multiple of 32 below it
    base, lower, sibling = study.base(), found["the base at 64 px"].measured, found["base.pt"].measured
    assert base is not None and lower is not None and sibling is not None, [row.note for row in found.values()]
    for name in ("map50_95", "params_m", "macs_g", "size_mb"):
        assert sibling.figures[name] == base.figures[name]
    assert lower.figures["params_m"] == base.figures["params_m"]
    assert lower.figures["macs_g"].value < 0.6 * base.figures["macs_g"].value
    timed = json.loads((study.record.path / "latency" / "final.json").read_text())["trials"]
    assert timed.keys() <= {"0"} and all({"latency_ms", "ratio", "processor"} <= row.keys() for row in timed.values())
    assert {path.name for path in study.record.path.glob("latency/together/*")} == {"train.log", "progress.json"}
    assert study.trials()[0].measurement is not None and study.trials()[0].measurement.seeds == 2
    left = {path.name for path in study.record.path.glob("baselines/*/*")}
    assert left <= {"row.json", "result.json", "train.log", "progress.json"}


def test_a_global_ranking_is_a_candidate_that_leaves_alone_what_the_study_does(tiny: Path, tmp_path: Path) -> None:
    from search.evaluate.final_measurements import globally_ranked
    from search.evaluate.workload import example_input

    keys = {"model": str(tiny / "base.pt"), "data": str(tiny / "data" / "data.yaml"), "imgsz": 64}
    spec = load_spec(None, {**keys, "space.ignore": ["model.8.*"], "space.precision": ["int8"]})
    model = load_model(spec.model)
    graph = shelf.trace(model, example_input(model, 64))
    space = Space.from_graph(graph, spec.searched_space, spec.sizes)
    reference = pruning_evaluator.Reference(tmp_path / "base.onnx", tiny / "base.pt", 64, 1.0)
    scores = graph.score(model, "l2")
    evaluator = pruning_evaluator.PruningEvaluator(spec, space, {64: graph}, scores, reference, "cpu")
    ranked, candidate = globally_ranked(evaluator, 0.3)
    assert candidate.precision == "int8", "the study's own"
    ours, theirs = (
        ranked.plan(candidate),
        graph.plan(0.3, importance=scores, ranking="global", round_to=spec.space.round_to),
    )
    sizes = {group.name: group.size for group in graph.groups}
    alone = [name for name in sizes if name.startswith("model.8.")]
    assert alone and all(ours.widths[name] == sizes[name] for name in alone)
    same = [name for name in sizes if ours.widths[name] == theirs.widths[name]]
    assert len(same) >= 0.9 * (len(sizes) - len(alone))
