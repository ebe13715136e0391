"""Export and verification on a real network: what passes is delivered, what does not says so."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ultralytics.data.augment import LetterBox

from objectives.errors import AccuracyError, BackendMissing
from pruning.recovery.images import letterboxed
from search.config.sections import LatencySpec
from search.deliver import verified_export
from search.deliver.verified_export import export_model
from search.errors import ConfigError, DeviceMissing, exit_code
from search.export import formats, ultralytics_export
from search.export.artefact_accuracy import validate
from search.export.calibration_images import calibration_files
from search.export.errors import CheckFailed, ExportFailed
from search.export.formats import Format, checked_targets
from search.export.graph_options import GraphOptions
from search.export.parity import LIMIT, artefact_outputs, compare_outputs, load_images, parity_fault
from search.run_folder.artefact_files import digest, size_bytes
from tests.objectives.runtimes import contract
from tests.tiny_data import make_tiny_data

SIZE = 64


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_verified_artefacts(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    report = export_model(
        checkpoint, tmp_path, ["onnx", "torchscript"], data=dataset, imgsz=SIZE, max_drop=0.02, base=checkpoint,
        latency=LatencySpec(seconds=0.4),
    )  # fmt: skip
    assert names(tmp_path) == ["export.json", "model.onnx", "model.torchscript"]
    assert report.passed and report.metric == "map50_95"
    assert report.accuracy["map50_95"] > 0.3, "the fixture's model must be good enough to lose something"
    for check in report.artefacts:
        file = tmp_path / check.path
        assert check.size_bytes == file.stat().st_size
        assert check.digest == hashlib.sha256(file.read_bytes()).hexdigest()
        assert check.parity is not None and (check.parity.inputs, check.parity.images) == ("val", 4)
        assert check.parity.relative < 1e-3 < LIMIT and check.parity.loud < 1e-3
        assert check.drop is not None and abs(check.drop) < 0.02
        assert check.latency is not None and 0 < check.latency["p50_ms"] < 1000
        assert check.latency["ratio"]["low"] < 1.5 and check.latency["ratio"]["high"] > 0.7, "against its own twin"
        assert check.memory is not None and 10 < check.memory["runtime_mb"] < check.memory["peak_mb"] < 2000
        assert not check.unchecked
    assert json.loads((tmp_path / "export.json").read_text()) == json.loads(json.dumps(report.to_json()))
    assert names(checkpoint.parent) == ["model.pt"], "nothing may be left beside the checkpoint"


def test_a_lossy_export_fails_loudly_and_is_not_delivered(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"onnx int8: map50_95 fell by 0\.\d+ .* expected at most 0.001") as raised:
        export_model(checkpoint, tmp_path, ["onnx"], data=dataset, imgsz=SIZE, quantize=[32, 8], max_drop=0.001)
    assert exit_code(raised.value) == 3
    assert "delivered: onnx fp32" in str(raised.value), "one that fails does not take the others with it"
    assert names(tmp_path) == ["export.json", "model.onnx"]
    written = json.loads((tmp_path / "export.json").read_text())
    assert not written["passed"]
    assert [row["drop"] > 0.001 for row in written["artefacts"]] == [False, True]


@pytest.mark.parametrize(
    ("form", "graph", "file", "shape"),
    [
        ("onnx", GraphOptions(nms=True, conf=0.05), "model_nms.onnx", (1, 3, SIZE, SIZE)),
        ("onnx", GraphOptions(batch=2), "model_batch2.onnx", (2, 3, SIZE, SIZE)),
        ("onnx", GraphOptions(dynamic=True), "model_dynamic.onnx", (3, 3, SIZE // 2, SIZE)),
        pytest.param(
            "torchscript", GraphOptions(nms=True, conf=0.05), "model_nms.torchscript", None, marks=pytest.mark.slow
        ),
    ],
)
def test_batches_free_shapes_and_suppression_are_verified_as_they_are(
    checkpoint: Path, dataset: Path, tmp_path: Path, form: str, graph: GraphOptions, file: str, shape: Any
) -> None:
    spec = LatencySpec(seconds=0.1) if graph.batch > 1 else None
    report = export_model(checkpoint, tmp_path, [form], data=dataset, imgsz=SIZE, graph=graph, latency=spec)
    (check,) = report.artefacts
    assert names(tmp_path) == ["export.json", file] and check.passed, check.faults
    assert (check.path, check.graph, check.label) == (file, graph.label, f"{form} fp32 {graph.label}")
    assert check.parity is not None and check.parity.relative < 1e-3 and check.memory is not None, check.unchecked
    assert report.accuracy["map50_95"] > 0.2, "there are objects to compare"
    assert check.drop is not None and abs(check.drop) < 0.05 and bool(check.remarks) == graph.nms
    if shape is not None:
        (outputs,) = artefact_outputs(tmp_path / file, form, [np.zeros(shape, np.float32)])
        assert len(outputs[0]) == shape[0] and (outputs[0].shape[-1] == 6) == graph.nms
    if spec is not None:
        assert check.latency is not None and check.latency["batch"] == 2, "of the whole batch, beside the base's"
    if not graph.dynamic:
        return
    again = export_model(checkpoint, tmp_path, [form], data=dataset, imgsz=SIZE)
    assert {check.path for check in again.artefacts} == {file, f"model.{form}"}, "one beside the other"


def test_half_precision_is_named_and_smaller(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    report = export_model(checkpoint, tmp_path, ["onnx"], data=dataset, imgsz=SIZE, quantize=16)
    (check,) = report.artefacts
    assert (check.path, check.precision) == ("model_fp16.onnx", "fp16")
    assert check.size_bytes < 7e6
    assert check.parity is not None
    assert 1e-4 < check.parity.loud < 0.05, "parity must see that half precision is not float32"


@pytest.mark.parametrize(
    ("asked", "quantize", "text"),
    [
        (["onx"], None, r"'onx' is no export format\n.*\n.*\n  did you mean: onnx"),
        ([], None, "no format was named"),
        (["onnx"], 4, "unknown precision 4"),
        (["torchscript"], 8, "torchscript is not exported as int8"),
    ],
)
def test_what_cannot_be_asked_is_said_before_any_work(
    asked: list[str], quantize: int | None, text: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=text):
        export_model(tmp_path / "absent.pt", tmp_path, asked, data=tmp_path, imgsz=SIZE, quantize=quantize)


def test_a_missing_backend_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    absent = Format("future", ("package_of_2099",), {32: (), 8: ("calibrator_of_2099",)}, ".x", "torch")
    monkeypatch.setitem(formats.FORMATS, "future", absent)
    with pytest.raises(BackendMissing, match="pip install package_of_2099 calibrator_of_2099"):
        export_model(
            tmp_path / "absent.pt", tmp_path / "out", ["onnx", "future"], data=tmp_path, imgsz=SIZE, quantize="32,8"
        )
    assert not (tmp_path / "out").exists()


def test_every_format_in_every_precision_that_it_has_each_once() -> None:
    targets, notes = checked_targets(["onnx", "torchscript", "onnx"], "8, 32")
    assert [target.label for target in targets] == ["onnx int8", "onnx fp32", "torchscript fp32"]
    assert notes == ("torchscript has no int8; it was left out",)
    assert [target.file_name("m") for target in targets] == ["m_int8.onnx", "m.onnx", "m.torchscript"]


@pytest.mark.parametrize(
    ("form", "files"),
    [
        ("mnn", ["model.mnn", "model_fp16.mnn"]),
        pytest.param("ncnn", ["model_fp16_ncnn_model", "model_ncnn_model"], marks=pytest.mark.slow),
    ],
)
def test_a_runtime_of_small_boards_is_checked_like_any_other(
    form: str, files: list[str], checkpoint: Path, dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    contract.skip_unless_installed(form)
    report = export_model(
        checkpoint, tmp_path, [form], data=dataset, imgsz=SIZE, quantize=[32, 16], max_drop=0.05, base=checkpoint,
        latency=LatencySpec(seconds=0.2),
    )  # fmt: skip
    assert names(tmp_path) == ["export.json", *files] and report.passed
    whole, half = report.artefacts
    assert half.size_bytes < 0.6 * whole.size_bytes
    assert whole.parity is not None and half.parity is not None
    assert whole.parity.relative < 1e-3 < LIMIT and 1e-5 < half.parity.loud < 0.05
    for check, precision in ((whole, "fp32"), (half, "fp16")):
        assert check.latency is not None and not check.unchecked
        assert (check.latency["runtime"], check.latency["precision"]) == (form, precision)
        assert check.memory is not None and 10 < check.memory["runtime_mb"] < check.memory["peak_mb"] < 2000
    assert capfd.readouterr().out == "", "standard output belongs to -f json"


def test_what_another_device_runs_is_passed_on_and_timed_by_a_command(
    checkpoint: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = replace(formats.FORMATS["torchscript"], runtime=None, runs_on="a board")
    monkeypatch.setitem(formats.FORMATS, "torchscript", elsewhere)
    (program := tmp_path / "time.sh").write_text("#!/bin/sh\necho 5.5\n")
    program.chmod(0o755)
    settings: dict[str, Any] = {"data": dataset, "imgsz": SIZE}
    timed = LatencySpec(runtime=f"command:{program}", seconds=0.1)
    (check,) = export_model(checkpoint, tmp_path / "out", ["torchscript"], latency=timed, **settings).artefacts
    assert check.passed and check.path == "model.torchscript" and check.size_bytes > 1e6
    assert (check.parity, check.drop, check.memory, dict(check.accuracy)) == (None, None, None, {})
    assert check.unchecked == ("outputs, accuracy and memory: not checked here, it runs on a board",)
    assert check.latency is not None and check.latency["p50_ms"] == 5.5 and check.latency["ratio"]["value"] == 1
    with pytest.raises(CheckFailed, match=r"a drop of at most 0\.5 cannot be promised"):
        export_model(checkpoint, tmp_path / "promise", ["torchscript"], max_drop=0.5, **settings)


def test_an_engine_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats.FORMATS, "engine", replace(formats.FORMATS["engine"], packages=()))
    with pytest.raises(DeviceMissing, match="format=engine is made on a GPU"):
        checked_targets(["engine"])


def test_no_model(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no model at"):
        export_model(tmp_path / "absent.pt", tmp_path, ["onnx"], data=dataset, imgsz=SIZE)


def test_incomplete_data_are_refused_and_never_downloaded(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.yaml"
    trap = tmp_path / "ran"
    lines = [f"path: {tmp_path}", "train: gone", "val: gone", "names: {0: blue, 1: red}"]
    data.write_text("\n".join([*lines, f"download: open({str(trap)!r}, 'w')"]))
    with pytest.raises(ConfigError, match="not a data set that can be used"):
        export_model(checkpoint, tmp_path / "out", ["onnx"], data=data, imgsz=SIZE)
    assert not trap.exists()


def test_a_failed_export_leaves_the_folder_as_it_was(
    checkpoint: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_text("older")
    broken = Format("onnx", (), {32: ()}, ".onnx", "onnxruntime", options={"opset": 1})
    monkeypatch.setitem(formats.FORMATS, "onnx", broken)
    with pytest.raises(ExportFailed, match="onnx fp32: the export stopped") as raised:
        export_model(checkpoint, tmp_path, ["onnx", "openvino"], data=dataset, imgsz=SIZE)
    assert exit_code(raised.value) == 1
    assert names(tmp_path) == ["export.json", "model.onnx", "model_openvino_model"]
    assert (tmp_path / "model.onnx").read_text() == "older"
    assert raised.value.report is not None and not raised.value.report.passed


def test_a_second_export_keeps_the_rows_of_the_first(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    for bits in (16, 32):
        report = export_model(checkpoint, tmp_path, ["onnx"], data=dataset, imgsz=SIZE, quantize=bits)
    assert [check.label for check in report.artefacts] == ["onnx fp16", "onnx fp32"]
    content = json.loads((tmp_path / "export.json").read_text())
    fresh = replace(report, artefacts=())
    assert fresh.with_earlier(content, tmp_path).artefacts == report.artefacts
    (tmp_path / "model_fp16.onnx").unlink()
    assert [check.label for check in fresh.with_earlier(content, tmp_path).artefacts] == ["onnx fp32"]
    assert replace(fresh, model_digest="another").with_earlier(content, tmp_path).artefacts == ()


def test_what_cannot_be_measured_is_said_and_no_promise_is_made(
    checkpoint: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *rest: Any, **more: Any) -> object:
        if path != checkpoint:
            raise AccuracyError("no backend for it on this machine\nmore")
        return validate(path, *rest, **more)

    monkeypatch.setattr("search.deliver.verified_export.validate", refuse)
    (check,) = export_model(checkpoint, tmp_path, ["onnx"], data=dataset, imgsz=SIZE).artefacts
    assert (check.passed, check.drop) == (True, None)
    assert check.unchecked == ("accuracy: no backend for it on this machine",)
    with pytest.raises(CheckFailed, match=r"a drop of at most 0\.5 cannot be promised"):
        export_model(checkpoint, tmp_path, ["onnx"], data=dataset, imgsz=SIZE, max_drop=0.5)


def test_what_fails_without_a_word_is_named_by_its_error() -> None:
    def refuse() -> object:
        raise AccuracyError("")

    unchecked: list[str] = []
    assert verified_export._tried("accuracy", unchecked, refuse) is None
    assert unchecked == ["accuracy: AccuracyError"]


def test_an_artefact_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ExportFailed, match=r"model\.onnx was written but cannot be run"):
        artefact_outputs(tmp_path / "model.onnx", "onnx", [np.zeros((1, 3, 8, 8), np.float32)])


def test_a_wrong_score_is_not_lost_in_the_range_of_boxes() -> None:
    want = np.ones((1, 5, 10), np.float32)
    want[:, :4] *= 600
    want[:, 4] *= 0.9
    got = want.copy()
    got[:, 4] = 0.1
    parity = compare_outputs([[want]], [[got]], "val")
    assert parity.max_abs == pytest.approx(0.8)
    assert parity.relative == pytest.approx(0.8 / 0.9)
    assert parity.loud == pytest.approx(0.8 / 0.9)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_scores_that_were_rounded_to_zero_are_another_model(precision: str) -> None:
    rng = np.random.default_rng(0)
    want = np.concatenate([rng.random((1, 4, 50)) * 600, rng.random((1, 2, 50))], axis=1).astype(np.float32)
    noise = {"fp32": 1e-6, "fp16": 1e-3, "int8": 0.2}[precision]
    noisy = (want * (1 + rng.normal(0, noise, want.shape))).astype(np.float32)
    assert parity_fault(compare_outputs([[want]], [[noisy]], "val"), precision) is None
    broken = want.copy()
    broken[:, 5] = 0
    assert "outputs differ by 1 of their" in str(parity_fault(compare_outputs([[want]], [[broken]], "val"), precision))


def test_outputs_are_matched_by_shape() -> None:
    left, right = np.zeros((1, 2, 3), np.float32), np.ones((1, 4), np.float32)
    assert compare_outputs([[left, right]], [[right, left]], "val").max_abs == 0
    with pytest.raises(ExportFailed, match=r"output of shape \(1, 9\)"):
        compare_outputs([[left]], [[np.zeros((1, 9), np.float32)]], "val")
    with pytest.raises(ExportFailed, match="NaN or infinity"):
        compare_outputs([[left]], [[left + np.float32("nan")]], "val")


def test_a_folder_that_was_there_is_replaced(tmp_path: Path) -> None:
    from search.deliver.verified_export import _deliver

    for name, text in (("out/model_openvino_model", "old"), ("new/model_openvino_model", "new")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.xml").write_text(text)
    _deliver(tmp_path / "new/model_openvino_model", tmp_path / "out/model_openvino_model")
    assert (tmp_path / "out/model_openvino_model/model.xml").read_text() == "new"
    assert names(tmp_path / "out") == ["model_openvino_model"]


def test_other_classes_are_refused(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.yaml"
    data.write_text(dataset.read_text().replace("1: red", "1: rose"))
    with pytest.raises(ConfigError, match=r"other classes than the model: 2 \(blue, rose\)"):
        export_model(checkpoint, tmp_path / "out", ["onnx"], data=data, imgsz=SIZE)


def test_images_that_cannot_be_read_give_random_inputs(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    found, inputs = load_images([tmp_path / "a.png"], SIZE, 2, 3)
    assert inputs == "random" and [image.shape for image in found] == [(1, 3, SIZE, SIZE)] * 2


def test_the_digest_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.xml").write_text("same")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    (tmp_path / "b" / "model.xml").rename(tmp_path / "b" / "other.xml")
    assert digest(tmp_path / "a") != digest(tmp_path / "b")
    assert size_bytes(tmp_path / "a") == 4


def test_openvino_is_a_verified_folder(checkpoint: Path, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "model_openvino_model").mkdir()
    (tmp_path / "model_openvino_model" / "stale.bin").write_text("older")
    report = export_model(checkpoint, tmp_path, ["openvino"], data=dataset, imgsz=SIZE)
    (check,) = report.artefacts
    assert check.parity is not None
    assert check.parity.relative < 1e-3, "compared in float32 also where OpenVINO prefers bfloat16"
    assert names(tmp_path / check.path) == ["metadata.yaml", "model.bin", "model.xml"]


def own_model(folder: Path, names: dict[int, str], channels: int = 3, **args: object) -> Path:
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from pruning.checkpoints.checkpoint import save_model

    torch.manual_seed(0)
    model: Any = DetectionModel("yolov8n.yaml", ch=channels, nc=len(names), verbose=False)
    model.names, model.args, model.task = names, args, "detect"
    save_model(model, folder / "model.pt")
    return folder / "model.pt"


def test_a_model_of_a_single_class_takes_all_classes_of_its_data_as_one(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", size=SIZE)
    model = own_model(tmp_path, {0: "item"}, single_cls=True)
    report = export_model(model, tmp_path / "out", ["onnx"], data=data, imgsz=SIZE, quantize=[32, 8])
    assert report.passed and [set(check.per_class) for check in report.artefacts] == [{"item"}] * 2
    assert not [check.unchecked for check in report.artefacts if check.unchecked]
    model = own_model(tmp_path, {0: "item"})
    with pytest.raises(ConfigError, match="other classes than the model: 2"):
        export_model(model, tmp_path / "other", ["onnx"], data=data, imgsz=SIZE)


def test_a_grey_model_is_compared_and_calibrated_on_grey_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_tiny_data(tmp_path / "data", size=SIZE)
    data.write_text(data.read_text() + "channels: 1\n")
    model = own_model(tmp_path, {0: "dark", 1: "bright"}, channels=1)
    seen: list[Any] = []
    real = ultralytics_export.quantise_onnx

    def quantise(made: Path, path: Path, images: Any) -> None:
        seen.extend(images)
        real(made, path, iter(seen))

    monkeypatch.setattr(ultralytics_export, "quantise_onnx", quantise)
    report = export_model(model, tmp_path / "out", ["onnx"], data=data, imgsz=SIZE, quantize=[32, 8])
    assert report.passed and all(check.parity and check.parity.inputs == "val" for check in report.artefacts)
    files = calibration_files(data)
    assert len(seen) == len(files) == 12
    expected = letterboxed(files[0], LetterBox((SIZE, SIZE), auto=False), 1)
    assert expected is not None and np.array_equal(seen[0], (expected[None] / np.float32(255)).astype(np.float32))
