"""Precision as a dimension of the search: the file that is timed, the one that is scored, points made by export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from objectives.objective import Estimate
from objectives.weights import kernel_weights
from pruning.checkpoints.checkpoint import load_model
from search.config.precision_support import precision_fault, precisions_of
from search.config.sections import SearchSpec
from search.config.spec import StudySpec, load_spec
from search.deliver import verified_export
from search.deliver.picked_trial import PickedTrial
from search.errors import ConfigError
from search.evaluate.baselines import baseline_rows
from search.evaluate.final_measurements import PruningFinalMeasurements
from search.evaluate.pruning_evaluator import PruningEvaluator
from search.evaluate.reduced_precision import file_to_time, measure_base_precision, timing_file
from search.evaluate.timing.progress import Phases
from search.export.accuracy_shift import shifted
from search.export.errors import CheckFailed
from search.export.formats import Target
from search.orchestration.weight_retention import discard
from search.prepare.prepare import prepare_in_child
from search.propose.guided import Guide
from search.references import resolve
from search.results.exported_points import exported_trials
from search.run_folder.record import RunRecord
from search.study import Study
from search.trial import Candidate, Measurement, ScreeningLimit, Trial, TrialState
from studies.digits.make_data import make_data
from tests.search.conftest import run

DIGITS = Path(__file__).parents[3] / "studies" / "digits" / "yolov8n-digits.pt"


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudySpec, RunRecord, PruningEvaluator, Measurement]:
    """A study of the digits base that may quantise and trains nothing, prepared; with its run folder."""
    folder = tmp_path_factory.mktemp("precision")
    data = make_data(folder / "data", train=64, val=60)
    spec = load_spec(None, {
        "model": str(DIGITS), "data": str(data), "imgsz": 128, "device": "cpu", "name": "digits",
        "project": str(folder / "runs"), "search.sampler": "random", "space.precision": ["fp32", "int8"],
        "space.groups": ["model.9.*"], "recover.epochs": 0, "latency.seconds": 0.5, "keep.weights": "all",
        "constraints": {"weights_mb": 99},
    })  # fmt: skip
    record = RunRecord(Path(spec.project) / spec.run_name)
    record.base_dir.mkdir(parents=True)
    prepared = prepare_in_child(spec, record.base_dir, None)
    record.write_args(spec.resolved(), {"model": "a" * 64, "data": "b" * 64})
    record.write_base(prepared.base)
    record.write_groups(prepared.groups)
    assert isinstance(prepared.evaluator, PruningEvaluator)
    return spec, record, prepared.evaluator, prepared.base


@pytest.fixture(scope="module")
def trials(studied: Any) -> dict[str, Trial]:
    """The same network measured in both precisions, as trials 0 and 1 of the run."""
    _, record, evaluator, _ = studied
    found = {}
    for number, precision in enumerate(("fp32", "int8")):
        candidate = evaluator.space.uniform(0.5)
        candidate = replace(candidate, precision=precision)
        folder = record.start_trial(number, candidate, "test")
        record.write_outcome(number, evaluator.evaluate(candidate, number, 0, folder))
        trial = record.read_trial(number)
        assert trial is not None
        found[precision] = trial
    return found


def value(trial: Trial, name: str) -> float:
    assert trial.measurement is not None
    return trial.measurement.figures[name].value


def test_an_int8_trial_has_the_figures_of_its_own_file(studied: Any, trials: dict[str, Trial]) -> None:
    record, full, small = studied[1], trials["fp32"], trials["int8"]
    assert value(small, "size_mb") < 0.4 * value(full, "size_mb")
    assert value(small, "params_m") == value(full, "params_m")
    kernels = kernel_weights(load_model(record.trial_dir(0) / "weights.pt")) / 1e6
    assert value(small, "weights_mb") == value(full, "weights_mb") == kernels < studied[3].figures["weights_mb"].value
    assert value(full, "map50_95") > 0.6
    assert 0 < abs(value(small, "map50_95") - value(full, "map50_95")) < 0.05, "quantised, but not broken"
    assert small.measurement is not None and full.measurement is not None
    assert small.measurement.figures.keys() == full.measurement.figures.keys()
    assert sorted(path.name for path in record.trial_dir(1).glob("weights*")) == ["weights.pt", "weights_int8.onnx"]
    assert [path.name for path in record.trial_dir(1).iterdir() if path.is_dir()] == ["samples"]
    assert studied[2].pruned(small.candidate).key != studied[2].pruned(full.candidate).key


def test_a_screened_trial_has_the_weights_that_a_constraint_bounds(
    studied: Any, trials: dict[str, Trial], tmp_path: Path
) -> None:
    evaluator, full = studied[2], trials["fp32"]
    auto = evaluator.spec.model_copy(update={"search": SearchSpec(sampler="auto")})
    screened = replace(evaluator, spec=auto).evaluate(full.candidate, 9, 0, tmp_path, ScreeningLimit(0.0))
    assert screened.screened and screened.figures["weights_mb"].value == value(full, "weights_mb")


def test_the_base_in_int8_is_an_honest_row(studied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, evaluator, base = studied
    beats: list[str] = []
    monkeypatch.setattr(Phases, "beat", lambda phase: beats.append(phase._current))
    row = measure_base_precision(evaluator, base, "int8", tmp_path)
    assert beats.count("accuracy") >= 2 * 60, "a sign of life before each image: a large set takes hours"
    assert row.figures.keys() == base.figures.keys()
    assert row.figures["size_mb"].value < 0.35 * base.figures["size_mb"].value
    assert abs(row.figures["map50_95"].value - base.figures["map50_95"].value) < 0.05
    assert row.figures["per_class_drop"].value > 0
    assert row.notes == ("the unpruned model in int8, as onnx",)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_picked_file_is_the_measured_one(studied: Any, trials: dict[str, Trial]) -> None:
    record = studied[1]
    picked = PickedTrial(Study.load(record.path).results(), trials["int8"], "a test")
    measured = (record.trial_dir(1) / "weights_int8.onnx").read_bytes()
    assert (picked.write() / "model_int8.onnx").read_bytes() == measured
    report = picked.export("onnx")
    assert [check.label for check in report.artefacts] == ["onnx int8"]
    assert (picked.folder / report.artefacts[0].path).read_bytes() == measured
    assert "weights\\_int8.onnx" in (picked.folder / "model_card.md").read_text()
    assert exported_trials(record, record.trials()) == (), "it is a trial, hence no further point"


def test_an_export_in_another_precision_is_a_point_of_its_own(studied: Any, trials: dict[str, Trial]) -> None:
    record = studied[1]
    done = run("export", f"{record.path}:0", "format=onnx", "quantize=8,32", "--max-drop", "0.1")
    assert done.exit_code == 0, done.output
    (point,) = exported_trials(record, record.trials())
    assert (str(point.id), point.number, point.exported) == ("0-int8", 0, True)
    assert value(point, "size_mb") == pytest.approx(value(trials["int8"], "size_mb"), rel=0.01)
    assert value(point, "map50_95") == pytest.approx(value(trials["int8"], "map50_95"), abs=1e-6), "same net, same file"
    picked = resolve(f"{record.path}:0-int8")
    assert picked.name == "trial 0-int8" and picked.ref == f"{record.path}:0-int8"
    artefact = picked.artefact()
    assert artefact is not None and artefact.name == "weights_int8.onnx" and artefact.parent == picked.folder
    content = Study.load(record.path).snapshot()
    row = next(row for row in content["trials"] if row["exported"])
    assert (row["id"], row["number"], row["source"]) == ("0-int8", 0, "export")
    written = record.read_snapshot()
    assert written is not None and "0-int8" in {row["id"] for row in written["trials"]}, "an open page shows it"
    volumes = [entry["trial"] for entry in content["hypervolume"]]
    assert len(volumes) == len(set(volumes)), "a point that nobody searched adds none"
    listed = run("ls", str(record.path)).output
    assert "0-int8" in listed


def test_a_drop_that_was_not_allowed_makes_no_point(
    studied: Any, trials: dict[str, Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = studied[1]
    for path in (record.path / "exports").glob("*.json"):
        path.unlink()
    honest = verified_export.validate

    def half_as_good(artefact: Path, model: Path, *rest: Any, **how: Any) -> Any:
        found = honest(artefact, model, *rest, **how)
        if artefact == model:
            return found
        return replace(found, figures={name: one.scaled(0.5) for name, one in found.figures.items()})

    monkeypatch.setattr(verified_export, "validate", half_as_good)
    failed = run("export", f"{record.path}:0", "quantize=8", "--max-drop", "0.02")
    assert failed.exit_code == CheckFailed.exit_code == 3
    assert "not delivered" in failed.output
    assert exported_trials(record, record.trials()) == ()


@pytest.mark.slow
def test_a_study_in_int8_alone_times_weighs_and_validates_everything_in_int8(
    studied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quick tests show the same of a candidate in INT8 beside others; this one, that nothing is left in float32."""
    full: Measurement = studied[3]
    spec = load_spec(None, {
        "model": str(DIGITS), "data": studied[0].data, "imgsz": 128, "device": "cpu", "name": "int8",
        "project": str(tmp_path), "space.precision": ["int8"], "recover.epochs": 0, "latency.seconds": 0.5,
        "budgets.half.latency_ms": "50%",
    })  # fmt: skip
    record = RunRecord(Path(spec.project) / spec.run_name)
    record.base_dir.mkdir(parents=True)
    prepared = prepare_in_child(spec, record.base_dir, None)
    assert isinstance(prepared.evaluator, PruningEvaluator) and isinstance(prepared.guide, Guide)
    assert prepared.evaluator.reference.onnx.name == "base_int8.onnx"
    assert prepared.base.figures["size_mb"].value < 0.35 * full.figures["size_mb"].value
    lost = full.figures["map50_95"].value - prepared.base.figures["map50_95"].value
    assert 0 < abs(lost) < 0.05, "that of the quantised file"
    keys = [json.loads(path.read_text())["key"] for path in (record.path / "latency").glob("[0-9a-f]*.json")]
    assert keys and {key["precision"] for key in keys} == {"int8"}
    first = prepared.guide.opening()[0]
    assert first.precision == "int8"
    found = prepared.evaluator.evaluate(first, 0, 0, record.start_trial(0, first, "test"))
    assert found.figures["size_mb"].value < prepared.base.figures["size_mb"].value
    timed: list[Path] = []

    def noted(*words: Any) -> Path:
        timed.append(made := file_to_time(*words))
        return made

    monkeypatch.setattr("search.evaluate.final_measurements.file_to_time", noted)
    assert PruningFinalMeasurements(prepared.evaluator, prepared.base).together({0: first}, 0, tmp_path).keys() == {0}
    assert [path.name for path in timed] == ["0_int8.onnx"]
    (row,) = baseline_rows(["int8"], prepared.space, 128, 0)
    assert row.name == "the base in FP32"
    base = measure_base_precision(prepared.evaluator, prepared.base, "fp32", tmp_path)
    assert base.figures["map50_95"].value == pytest.approx(full.figures["map50_95"].value, abs=1e-6)
    assert base.figures["size_mb"].value == pytest.approx(full.figures["size_mb"].value, rel=1e-3)


def test_what_is_timed_does_not_depend_on_the_ranges(
    studied: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is the same whatever it was calibrated on: only scales and zero points differ."""
    import onnx

    graphs = []
    for name, count in (("few", 2), ("more", 8)):
        monkeypatch.setattr("search.evaluate.reduced_precision.TIMING_IMAGES", count)
        path = timing_file(DIGITS, studied[0], "int8", 128, tmp_path / name)
        graphs.append([(node.op_type, node.name) for node in onnx.load(str(path)).graph.node])
    assert graphs[0] == graphs[1]


def test_what_a_killed_preparation_left_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to calibration images cannot be made twice, and nobody cleans up after SIGKILL."""
    spec = load_spec(None, {"model": str(DIGITS), "data": str(DIGITS.parent), "space.precision": ["int8"]})
    record = RunRecord(tmp_path)
    place = record.base_dir / "base-in-int8"
    (place / "file" / "images").mkdir(parents=True)
    (place / "file" / "images" / "00000.png").symlink_to(DIGITS)

    def linked(checkpoint: Path, target: Target, folder: Path, **_: Any) -> Path:
        (folder / "images").mkdir(parents=True)
        (folder / "images" / "00000.png").symlink_to(DIGITS)
        return folder

    monkeypatch.setattr("search.evaluate.reduced_precision.make_artefact", linked)
    assert timing_file(DIGITS, spec, "int8", 64, place) == place / "file"
    record.discard_preparation()
    assert not list(record.base_dir.iterdir())


@pytest.mark.parametrize(("runtime", "batch"), [("ncnn", 1), ("openvino", 4)])
def test_a_file_of_ncnn_has_no_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, batch: int) -> None:
    keys = {"model": str(DIGITS), "data": str(DIGITS.parent), "space.precision": ["fp16"]}
    spec = load_spec(None, {**keys, "latency.runtime": runtime, "latency.batch": 4})
    asked: list[int] = []
    monkeypatch.setattr(
        "search.evaluate.reduced_precision.make_artefact", lambda *_, batch, **__: asked.append(batch) or tmp_path
    )
    timing_file(DIGITS, spec, "fp16", 64, tmp_path / "timing")
    assert asked == [batch]


def test_weights_go_with_what_was_made_of_them(tmp_path: Path) -> None:
    record = RunRecord(tmp_path)
    (record.trial_dir(0) / "weights_int8_openvino_model").mkdir(parents=True)
    (record.trial_dir(0) / "weights.pt").write_bytes(b"weights")
    (record.trial_dir(0) / "result.json").write_bytes(b"{}")
    trial = Trial(0, TrialState.COMPLETE, Candidate({}))
    exported = replace(trial, candidate=Candidate({}, precision="int8"), exported=True)
    keep = load_spec(None, {"model": str(DIGITS), "data": str(DIGITS.parent)}).keep
    discard(record, [trial, exported], [exported.id], keep)
    assert (record.trial_dir(0) / "weights.pt").exists(), "the front holds its export"
    discard(record, [trial, exported], [], keep)
    assert [path.name for path in record.trial_dir(0).iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("precision", "runtime", "device", "text"),
    [
        ("int8", "torch", "cpu", r"runtime torch on cpu cannot run int8, .* with runtime onnxruntime .* or openvino"),
        ("fp16", "onnxruntime", "cpu", r"cannot run fp16, .* with runtime openvino"),
        ("int8", "onnxruntime", "0", r"cannot run int8, .* with runtime tensorrt"),
    ],
)
def test_a_runtime_without_the_precision_is_refused(precision: str, runtime: str, device: str, text: str) -> None:
    keys = {"model": str(DIGITS), "data": str(DIGITS.parent), "space.precision": ["fp32", precision]}
    with pytest.raises(ConfigError, match=text):
        load_spec(None, {**keys, "latency.runtime": runtime, "latency.device": device})


def test_every_runtime_has_float32() -> None:
    for runtime in ("torch", "onnxruntime", "openvino", "tensorrt", "command:./time"):
        assert "fp32" in precisions_of(runtime)
        assert precision_fault(("fp32",), runtime, "cpu") is None
    assert precision_fault(("fp32", "int8"), "openvino", "cpu") is None


def test_figures_are_shifted_by_what_the_file_loses() -> None:
    figures = {"map50_95": Estimate(0.5, 0.4, 0.6), "top1": Estimate(0.01, 0.0, 0.02), "latency_ms": Estimate.exact(3)}
    found = shifted(figures, {"map50_95": 0.52, "top1": 0.5}, {"map50_95": 0.5, "top1": 0.1})
    assert found["map50_95"].to_dict() == pytest.approx({"value": 0.48, "low": 0.38, "high": 0.58})
    assert found["top1"] == Estimate.exact(0.0)
    assert set(found) == {"map50_95", "top1"}
