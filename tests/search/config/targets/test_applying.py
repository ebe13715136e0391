"""A study with a target: what the pack sets, what the study keeps, what is off, and what is measured instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from search.config.comparability import comparable
from search.config.spec import StudySpec, load_spec
from search.config.targets import applying
from search.config.targets.applying import measured_instead
from search.config.targets.pack import read_pack
from search.config.targets.record import TargetRecord
from search.errors import ConfigError
from tests.pruning import zoo

STARTER = "space: {round_to: 8, depth: true, levels: true}\nlatency: {runtime: onnxruntime, device: cpu, threads: 1}\n"
"""Of what `init` writes: the keys of packs."""


def study(folder: Path, text: str = "", **words: Any) -> StudySpec:
    path = folder / "study.yaml"
    path.write_text(f"model: best.pt\ndata: data.yaml\n{text}")
    return load_spec(path, words)


def target_of(spec: StudySpec) -> TargetRecord:
    assert spec.target is not None
    return spec.target


@pytest.fixture
def camera(workplace: Path) -> Path:
    """A folder with a study whose model is a stock YOLOv8n."""
    from pruning.checkpoints.checkpoint import save_model

    save_model(zoo.for_tiny_data("yolov8n.yaml"), workplace / "best.pt")
    return workplace


def test_a_pack_sets_runtime_precision_rounding_and_ceiling(camera: Path) -> None:
    spec = study(camera, "target: imx500\nimgsz: 640\n")
    assert (spec.latency.runtime, spec.space.precision, spec.space.round_to) == ("onnxruntime", ("int8",), 8)
    assert spec.constraints == {"weights_mb": "<=2.50854"}, "less the constants of boxes, 42 kB at 640 px"
    assert not spec.space.depth and not spec.space.levels
    assert target_of(spec).sets == {
        "space.precision": ["int8"],
        "space.round_to": 8,
        "latency.runtime": "onnxruntime",
        "constraints.weights_mb": "<=2.50854",
    }
    assert study(camera).target is None


def test_what_the_study_says_itself_takes_precedence(camera: Path) -> None:
    own = (
        "target: imx500\nspace: {round_to: 16, precision: [fp32, int8]}\nlatency: {runtime: 'command:time {model}'}\n"
        "constraints: {weights_mb: '<=2', params_m: 3}\n"
    )
    spec = study(camera, own)
    assert (spec.space.round_to, spec.space.precision) == (16, ("fp32", "int8"))
    assert spec.latency.runtime.startswith("command:") and spec.constraints == {"weights_mb": "<=2", "params_m": "<=3"}
    target = target_of(spec)
    assert target.sets == {} and target.kept["space.round_to"] == 8
    assert "space.round_to is the study's own; target imx500 has 8" in target.said()
    by_word = study(camera, "space: {round_to: 16}\n", target="imx500", **{"latency.runtime": "openvino"})
    assert (by_word.space.round_to, by_word.latency.runtime, by_word.space.precision) == (16, "openvino", ("int8",))


def test_a_target_as_a_word_replaces_what_a_starter_has_by_default(workplace: Path) -> None:
    spec = study(workplace, STARTER, target="rk3588", **{"latency.device": "cpu"})
    assert spec.space.round_to == 32 and spec.space.precision == ("int8",) and spec.space.depth
    beside = study(workplace, f"{STARTER}target: rk3588\n")
    assert beside.space.round_to == 8, "in the file both are said, and the study's own key wins"
    assert study(workplace, STARTER, target="cpu-openvino").latency.runtime == "openvino"
    assert (
        study(workplace, STARTER, target="cpu-openvino", **{"latency.runtime": "onnxruntime"}).latency.runtime
        != "openvino"
    )


def test_a_forbidden_move_is_off_or_an_error_where_it_is_asked_for(workplace: Path) -> None:
    spec = study(workplace, STARTER, target="imx500")
    assert not spec.space.depth and not spec.space.levels
    assert any(line.startswith("space.depth is off: Ultralytics' IMX export") for line in target_of(spec).said())
    with pytest.raises(ConfigError, match=r"target imx500 forbids space\.depth: Ultralytics' IMX export counts"):
        study(workplace, "target: imx500\nspace: {depth: true}\n")
    with pytest.raises(ConfigError, match=r"forbids space\.levels"):
        study(workplace, target="imx500", **{"space.levels": ["P5"]})


def test_a_network_that_the_device_does_not_take_is_refused(camera: Path) -> None:
    from pruning.checkpoints.checkpoint import save_model

    save_model(zoo.for_tiny_data("yolov8n-obb.yaml"), camera / "best.pt")
    with pytest.raises(
        ConfigError, match=r"imx500 takes detect, segment, pose, classify; best\.pt is a model of task obb"
    ):
        study(camera, "target: imx500\n")
    assert study(camera, "target: coral\n").constraints == {"weights_mb": "<=8"}


def test_a_precision_that_the_studys_runtime_cannot_run_is_the_targets(workplace: Path) -> None:
    with pytest.raises(ConfigError, match=r"target htp sets space\.precision: \[int8\], and runtime executorch"):
        study(workplace, "target: htp\nlatency: {runtime: executorch}\n")


def test_a_missing_runtime_is_stood_in_for_and_that_is_said(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "is_installed", lambda runtime: runtime != "tensorrt")
    spec = study(workplace, "target: orin-int8\n")
    assert (spec.latency.runtime, spec.latency.device, spec.space.round_to) == ("onnxruntime", "cpu", 32)
    (said,) = target_of(spec).measured
    assert said.startswith(
        "latency is that of onnxruntime on this machine, a stand-in: the Jetson Orin runs tensorrt, "
    )
    assert "not installed here" in said and "command:./time_on_board.sh {model}" in said
    monkeypatch.setattr(applying, "is_installed", lambda runtime: True)
    spec = study(workplace, "target: orin-int8\n")
    assert (spec.latency.runtime, spec.latency.device) == ("tensorrt", "0")
    assert study(workplace, "target: orin-int8\nlatency: {runtime: openvino}\n").latency.device == "cpu"


@pytest.mark.parametrize(
    ("pack", "runtime", "precision", "board", "said"),
    [
        ("pi5-ncnn", "ncnn", "fp16", "Raspberry Pi 5 Model B Rev 1.0\0", []),
        (
            "pi5-ncnn",
            "ncnn",
            "fp16",
            "Raspberry Pi 4 Model B\0",
            ["it is no Raspberry Pi 5. Its own: take a kit there"],
        ),
        ("pi5-ncnn", "mnn", "fp32", "Raspberry Pi 5 Model B Rev 1.0\0", ["the Raspberry Pi 5 runs ncnn"]),
        ("cpu-openvino", "openvino", "int8", None, []),
        (
            "imx500",
            "onnxruntime",
            "int8",
            None,
            ["no runtime for the IMX500 runs here", "accuracy in int8 is that of onnx"],
        ),
        ("imx500", "command:time", "int8", None, ["accuracy in int8 is that of an ONNX file"]),
        ("imx500", "command:time", "fp32", None, []),
    ],
)
def test_what_is_measured_in_the_devices_place_is_never_silent(
    pack: str, runtime: str, precision: str, board: str | None, said: list[str], tmp_path: Path
) -> None:
    if board is not None:
        (tmp_path / "model").write_text(board)
    keys = {"latency": {"runtime": runtime}, "space": {"precision": [precision]}}
    found = measured_instead(read_pack(pack), keys, tmp_path / "model")
    assert len(found) == len(said) and all(part in line for part, line in zip(said, found, strict=True)), found


def test_a_pack_of_ones_own_lies_beside_the_study(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "time.sh").touch()
    (workplace / "mine.yaml").write_text(
        "device: board\nweights_mb: 2\nstudy: {latency: {runtime: 'command:./time.sh {model}'}}\n"
    )
    (workplace / "away").mkdir()
    monkeypatch.chdir(workplace / "away")
    spec = study(workplace, "target: mine.yaml\n")
    assert spec.latency.runtime == f"command:{workplace / 'time.sh'} '{{model}}'"
    assert spec.latency.seconds == 60, "as of any command"
    assert (
        target_of(spec).name == "mine" and spec.constraints == {"weights_mb": "<=2"} and target_of(spec).measured == ()
    )


def test_a_run_goes_on_with_what_it_recorded_though_the_pack_has_changed(workplace: Path) -> None:
    (workplace / "mine.yaml").write_text("device: board\nstudy: {space: {round_to: 16}}\n")
    first = study(workplace, "target: mine.yaml\n")
    (workplace / "args.yaml").write_text(yaml.safe_dump({**first.resolved(), "fingerprint": {}}))
    (workplace / "mine.yaml").write_text("device: board\nstudy: {space: {round_to: 4}}\n")
    for words in ({}, {"target": "mine.yaml"}, {"target": "mine"}):
        assert load_spec(workplace / "args.yaml", words).resolved() == first.resolved()
    with pytest.raises(ConfigError, match="the run was begun for mine, which it keeps"):
        load_spec(workplace / "args.yaml", {"target": "coral"})
    changed = study(workplace, "target: mine.yaml\n")
    assert comparable(changed.resolved(), {}) != comparable(first.resolved(), {}), "a search of the study is refused"
    again = study(workplace, "target: mine.yaml\nspace: {round_to: 16}\n")
    assert comparable(again.resolved(), {}) == comparable(first.resolved(), {}), "the same keys are the same study"


def test_a_record_is_no_target_of_a_study(workplace: Path) -> None:
    with pytest.raises(ConfigError, match=r"study\.yaml line 3: target: expected one of pi5-ncnn"):
        study(workplace, "target: {name: imx500, device: IMX500}\n")
