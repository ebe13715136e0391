"""`compare` and the export of a checkpoint: figures are those of the file, and what cannot be compared is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pruning.checkpoints.checkpoint import count_parameters, load_model
from search.commands.timing.compare import found_objects, order_of
from search.errors import ConfigError
from search.study import Study
from tests.search.conftest import run
from tests.tiny_data import make_tiny_data

EXPORTED = ("imgsz=64", "quantize=32", "seconds=0.3", "-f", "json")


def test_models_side_by_side(tiny: Path, planned: Study) -> None:
    base, data = tiny / "base.pt", tiny / "data" / "data.yaml"
    made = run("prune", f"model={base}", "ratio=0.5", "imgsz=64", "out=small")
    assert made.exit_code == 0, made.output
    exported = run("export", "small/pruned.pt", f"data={data}", f"base={base}", *EXPORTED)
    assert exported.exit_code == 0, exported.output
    artefact = Path("small/pruned-exported/pruned.onnx")
    assert artefact.is_file() and json.loads(exported.stdout)["artefacts"][0]["latency"] is not None

    words = (str(base), "small/pruned.pt", str(artefact), f"data={data}", "imgsz=64", "seconds=0.3")
    result = run("compare", *words, "-f", "json")
    assert result.exit_code == 0, result.output
    first, small, onnx = json.loads(result.stdout)
    assert first["params_m"] == count_parameters(load_model(base)) / 1e6
    assert small["params_m"] == count_parameters(load_model("small/pruned.pt")) / 1e6 < 0.6 * first["params_m"]
    assert small["macs_g"] < 0.6 * first["macs_g"] and small["size_mb"] < first["size_mb"]
    assert first["ratio"] == 1 and small["latency_ms"] == pytest.approx(small["ratio"] * first["latency_ms"])
    assert first["fps"] == pytest.approx(1000 / first["latency_ms"])
    assert (onnx["params_m"], onnx["macs_g"], onnx["found"]) == (None, None, None) and onnx["size_mb"] > 0
    assert onnx["figures"]["map50_95"] == pytest.approx(small["figures"]["map50_95"], abs=0.02)
    assert first["labels"] == 6 and first["found"] is not None


def test_the_table_shows_differences_to_the_first(tiny: Path, planned: Study) -> None:
    result = run("compare", "planned:base", str(tiny / "base.pt"), "imgsz=64", "seconds=0.3")
    assert result.exit_code == 0, result.output
    assert "(+0 %)" in result.stdout.replace("\n", " ") and "onnxruntime" in result.stdout


def test_boxes_are_counted_where_there_are_any(tmp_path: Path) -> None:
    studies = Path(__file__).parents[4] / "studies"
    from studies.digits.make_data import make_data

    data = make_data(tmp_path / "digits", train=1, val=4)
    found = found_objects(studies / "digits" / "yolov8n-digits.pt", data, 128)
    assert found is not None and 4 <= found <= 40


def test_what_cannot_be_compared_is_refused(workplace: Path, planned: Study, tiny: Path) -> None:
    with pytest.raises(ConfigError, match="were not kept"):
        order_of(["planned:base", "planned:2"])
    assert run("compare").exit_code == 2
    assert run("compare", str(tiny / "base.pt"), "data=nowhere.yaml").exit_code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nowhere.pt", "data=data.yaml"), "no such file: nowhere.pt"),
        (("best.pt",), "data= is needed"),
        (("best.pt", "data=data.yaml", "qantize=8"), "did you mean: quantize"),
    ],
)
def test_an_export_that_makes_no_sense_is_refused(workplace: Path, words: tuple[str, ...], expected: str) -> None:
    result = run("export", *words)
    assert result.exit_code == 2 and expected in result.stderr, result.output


def test_a_network_may_say_how_many_channels_it_takes() -> None:
    from torch import nn

    from search.evaluate.workload import example_input

    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    assert example_input(model, 32).shape == (1, 3, 32, 32)
    model.input_channels = 24  # type: ignore[assignment]
    assert example_input(model, 32).shape == (1, 24, 32, 32)


def test_classification_has_no_boxes(tmp_path: Path) -> None:
    from pruning.checkpoints.checkpoint import save_model
    from tests.pruning import zoo

    data = make_tiny_data(tmp_path / "data", "classify")
    save_model(zoo.for_tiny_data("yolov8n-cls.yaml"), tmp_path / "base.pt")
    assert found_objects(tmp_path / "base.pt", data, 64) is None
