"""INT8 of pruned networks: made, verified, and why the layers that stay in float stay there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pruning.checkpoints.checkpoint import count_parameters, load_model, save_model
from pruning.recovery.bn_calibration import BaseMoments, calibration_batches, match_statistics
from search.deliver.verified_export import export_model
from search.export.artefact_accuracy import validate
from search.export.calibration_images import calibration_arrays, calibration_files, calibration_set
from search.export.errors import ExportFailed
from search.export.formats import FORMATS, Target
from search.export.onnx_int8 import kept_in_float, quantise_onnx
from search.export.parity import artefact_outputs, compare_outputs
from search.export.report import ExportReport
from search.export.ultralytics_export import make_artefact
from studies.digits.make_data import make_data
from studies.seg_shapes.make_data import make_data as make_shapes
from tests import shelf
from tests.tiny_data import make_tiny_data

STUDIES = Path(__file__).parents[3] / "studies"
DIGITS = STUDIES / "digits" / "yolov8n-digits.pt"
SHAPES = STUDIES / "seg_shapes" / "yolov8n-seg-shapes.pt"
IDLE = ("model.7", "model.8", "model.9", "model.19", "model.20", "model.21")
"""The digits are small objects: these deep layers do little, so half of them can go without a training."""
FOUR = ["onnx fp32", "onnx int8", "openvino fp32", "openvino int8"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("digits") / "data", train=64, val=60)


@pytest.fixture(scope="module")
def pruned(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits base with half of its idle channels removed and its batch norms corrected."""
    base = load_model(DIGITS)
    graph = shelf.trace(base, torch.zeros(1, 3, 128, 128))
    names = [g.name for g in graph.free if any(layer.startswith(f"{p}.") for layer in g.layers for p in IDLE)]
    plan = graph.plan(dict.fromkeys(names, 0.5), round_to=8)
    small = plan.apply(base)
    assert count_parameters(small) < 0.65 * count_parameters(base)
    match_statistics(small, plan, BaseMoments(base, calibration_batches(digits, 128)))
    path = tmp_path_factory.mktemp("pruned") / "pruned.pt"
    save_model(small, path)
    return path


def sizes(report: ExportReport) -> list[float]:
    return [check.size_bytes / report.artefacts[0].size_bytes for check in report.artefacts]


def test_a_pruned_detector_in_int8_is_the_same_detector(pruned: Path, digits: Path, tmp_path: Path) -> None:
    report = export_model(
        pruned, tmp_path, ["onnx", "openvino"], data=digits, imgsz=128, quantize=[32, 8], max_drop=0.03
    )
    assert [check.label for check in report.artefacts] == FOUR
    assert report.accuracy["map50_95"] > 0.6
    for check in report.artefacts:
        assert check.parity is not None and check.drop is not None and not check.unchecked
        limit = 1e-3 if check.precision == "fp32" else 0.5
        assert check.parity.loud < limit
        assert abs(check.drop) < 0.03
    assert sizes(report)[1] < 0.35 > sizes(report)[3]
    assert {path.name for path in tmp_path.iterdir()} == {
        "export.json", "pruned.onnx", "pruned_int8.onnx", "pruned_openvino_model", "pruned_int8_openvino_model",
    }  # fmt: skip


@pytest.mark.slow  # the detector above goes the same way
@pytest.mark.parametrize("formats", [["onnx"], ["onnx", "openvino"]])
def test_a_pruned_segmenter_in_int8_is_the_same_segmenter(formats: list[str], tmp_path: Path) -> None:
    """OpenVINO's own quantisation takes longest, and is there for the detector above."""
    data = make_shapes(tmp_path / "data", train=64, val=32)
    base = load_model(SHAPES)
    plan = shelf.trace(base, torch.zeros(1, 3, 160, 160)).plan(0.05, round_to=8)
    small = plan.apply(base)
    assert count_parameters(small) < count_parameters(base)
    match_statistics(small, plan, BaseMoments(base, calibration_batches(data, 160, task="segment")))
    model = tmp_path / "pruned.pt"
    save_model(small, model)
    keys: dict[str, Any] = {"data": data, "imgsz": 160, "quantize": [32, 8], "max_drop": 0.05}
    report = export_model(model, tmp_path / "out", formats, **keys)
    assert [check.label for check in report.artefacts] == FOUR[: 2 * len(formats)]
    assert report.accuracy["mask_map50_95"] > 0.3
    for check in report.artefacts:
        assert abs(report.accuracy["mask_map50_95"] - check.accuracy["mask_map50_95"]) < 0.05


def test_the_same_call_gives_the_same_file(pruned: Path, digits: Path, tmp_path: Path) -> None:
    images = list(calibration_arrays(calibration_files(digits, 2), 128, "detect"))
    keys: dict[str, Any] = {"data": digits, "imgsz": 128, "images": 4}
    paths = [make_artefact(pruned, Target(FORMATS["onnx"], 8), tmp_path / name, **keys) for name in ("a", "b")]
    first, second = (artefact_outputs(path, "onnx", images) for path in paths)
    assert compare_outputs(first, second, "val").max_abs == 0


def test_quantising_the_last_layers_too_costs_accuracy(
    pruned: Path, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every node that is not kept in float would cost: boxes in pixels and scores in one scale leave nothing."""
    import onnx

    plain = make_artefact(pruned, Target(FORMATS["onnx"], 32), tmp_path / "plain", data=digits, imgsz=128)
    graph = onnx.load(str(plain)).graph
    kept = kept_in_float(graph)
    assert {node.name for node in graph.node if node.op_type in ("Concat", "Sigmoid", "Mul")} <= kept
    heads = {node.name for node in graph.node if node.op_type == "Conv" and node.name in kept}
    assert len(heads) == 7 and any("dfl" in name for name in heads), "three of boxes, three of classes, one of bins"
    images = list(calibration_arrays(calibration_files(digits, 16), 128, "detect"))
    monkeypatch.setattr("search.export.onnx_int8.kept_in_float", lambda graph: set())
    quantise_onnx(plain, tmp_path / "all.onnx", images)
    assert validate(tmp_path / "all.onnx", pruned, digits, imgsz=128, device="cpu").figures["map50_95"].value < 0.3


def test_calibration_images_are_spread_over_the_training_images(digits: Path, tmp_path: Path) -> None:
    files = calibration_files(digits, 16)
    assert len(files) == 16 and {file.parent.name for file in files} == {"train"}
    assert files == calibration_files(digits, 16)
    linked = calibration_set(digits, tmp_path / "set", 16)
    assert [path.resolve() for path in sorted((linked.parent / "images").iterdir())] == [f.resolve() for f in files]
    for array in calibration_arrays(files[:2], 96, "detect"):
        assert array.shape == (1, 3, 96, 96) and array.dtype == np.float32 and 0 <= array.min() < array.max() <= 1


def test_a_classifier_is_calibrated_on_its_class_folders(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import ClassificationModel

    torch.manual_seed(0)
    data = make_tiny_data(tmp_path / "data", task="classify", size=64)
    model: Any = ClassificationModel("yolo11n-cls.yaml", nc=2, verbose=False)
    model.names, model.args, model.task = {0: "bright", 1: "dark"}, {}, "classify"
    save_model(model, tmp_path / "cls.pt")
    report = export_model(tmp_path / "cls.pt", tmp_path / "out", ["onnx", "openvino"], data=data, imgsz=64, quantize=8)
    assert [(check.label, set(check.accuracy)) for check in report.artefacts] == [
        ("onnx int8", {"top1", "top5"}),
        ("openvino int8", {"top1", "top5"}),
    ]


def test_no_image_to_calibrate_by(pruned: Path, digits: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    data = tmp_path / "data.yaml"
    data.write_text(digits.read_text().replace("train: images/train", f"train: {empty}") + f"\npath: {digits.parent}\n")
    with pytest.raises(ExportFailed, match="onnx int8: the export stopped: no image to find the ranges by"):
        make_artefact(pruned, Target(FORMATS["onnx"], 8), tmp_path / "out", data=data, imgsz=128)
