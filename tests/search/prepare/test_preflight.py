"""What a study cannot do is said before anything is traced, timed or trained."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from objectives.errors import CounterMissing
from objectives.objective import OBJECTIVES, Estimate
from objectives.resources import energy
from search.config import overrides
from search.config.spec import load_spec
from search.errors import ConfigError, exit_code
from search.prepare.preflight import (
    check_before,
    check_data,
    check_deployed,
    check_objectives,
    check_sizes,
    check_target,
)
from search.trial import Measurement
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data


def with_strides(*strides: float) -> Any:
    return SimpleNamespace(stride=torch.tensor(strides))


@pytest.mark.parametrize(("strides", "size", "near"), [((8, 16, 32, 64), 96, "128"), ((8, 16, 32), 100, "96")])
def test_a_size_that_the_deepest_level_does_not_divide_is_refused(strides: Any, size: int, near: str) -> None:
    with pytest.raises(ConfigError, match=f"{size} is not a multiple of {int(max(strides))}") as refused:
        check_sizes(with_strides(*strides), [640, size])
    assert refused.value.expected == near


def test_sizes_of_a_network_without_strides_are_its_owners_affair() -> None:
    check_sizes(torch.nn.Linear(1, 1), [37])


def test_a_model_that_is_trained_with_texts_is_told_what_can_be_done(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import WorldModel

    world: Any = WorldModel.__new__(WorldModel)
    with pytest.raises(ConfigError, match="trained with a text for every class") as refused:
        check_data(world, make_tiny_data(tmp_path / "data"))
    assert "paretoprune prune" in str(refused.value.next_command)


def model(**said: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"task": "detect", "args": {}, "names": {0: "a", 1: "b"}, "input_channels": 3, **said})


def test_what_goes_together_passes(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, size=32)
    assert check_data(model(), data).channels == 3
    assert check_data(model(names={0: "item"}, args={"single_cls": True}), data).rules.single_cls
    data.write_text(data.read_text() + "channels: 1\n")
    assert check_data(model(input_channels=1), data).channels == 1


@pytest.mark.parametrize("where", ["objectives", "constraints", "budgets"])
def test_a_figure_of_another_task_is_refused(where: str, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", size=32)
    (tmp_path / "best.pt").touch()
    keys: dict[str, Any] = {
        "objectives": ["mask_map50_95", "latency_ms"],
        "constraints": {"mask_map50_95": 0.3},
        "budgets": {"edge": {"latency_ms": 5}, "fine": {"mask_map50_95": 0.3}},
    }
    spec = load_spec(None, {"model": str(tmp_path / "best.pt"), "data": str(data), "imgsz": 64, where: keys[where]})
    with pytest.raises(ConfigError, match="mask_map50_95 is no figure of a detect model") as refused:
        check_before(spec, model(stride=torch.tensor([32.0])))
    assert refused.value.where == where


@pytest.mark.parametrize("where", ["constraints", "budgets"])
def test_a_limit_of_a_figure_that_the_base_lacks_is_refused(where: str, workplace: Path) -> None:
    """A share of it would limit nothing, and nobody would be told."""
    said: Any = {"map_small": 0.3} if where == "constraints" else {"small": {"latency_ms": "60%", "map_small": "95%"}}
    spec = load_spec(workplace / "study.yaml", {where: said})
    base = Measurement({name: Estimate.exact(1.0) for name in ("map50_95", "latency_ms", "params_m")})
    with pytest.raises(ConfigError, match="the base has no map_small: no object in the validation images is below"):
        check_objectives(spec, base)
    check_objectives(load_spec(workplace / "study.yaml", {"budgets": {"edge": {"latency_ms": "60%"}}}), base)


def test_other_channels_or_classes_are_refused(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, size=32)
    with pytest.raises(ConfigError, match="the model takes images of 1 channels") as refused:
        check_data(model(input_channels=1), data)
    assert "channels: 1 in the data YAML" in str(refused.value)
    with pytest.raises(ConfigError, match="the model has 1 classes"):
        check_data(model(names={0: "item"}), data)


@pytest.mark.parametrize(("split", "kind"), [("train", "training"), ("val", "validation")])
@pytest.mark.parametrize("task", ["detect", "classify"])
def test_a_split_without_images_is_named(split: str, kind: str, task: str, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, task, size=32)
    for file in (tmp_path if task == "classify" else tmp_path / "images").glob(f"{split}/**/*.png"):
        file.unlink()
    with pytest.raises(ConfigError, match=f"no {kind} images|no training images found"):
        check_data(model(task=task), data)


def test_a_network_that_the_exporter_of_the_target_refuses_is_refused_before_work(workplace: Path) -> None:
    """By its modules, which a removed block or another depth changes; fewer channels do not."""
    spec = load_spec(workplace / "study.yaml", {"target": "imx500"})
    graph = zoo.traced("yolov8n.yaml")
    check_target(spec, zoo.build("yolov8n.yaml"))
    check_target(spec, graph.plan(0.5).apply(zoo.build("yolov8n.yaml")))
    without = graph.plan(0.0, removed=(graph.blocks[0].path,)).apply(zoo.build("yolov8n.yaml"))
    with pytest.raises(ConfigError, match=r"networks of 168 or 169 modules; best\.pt has 1\d\d when fused"):
        check_target(spec, without)
    with pytest.raises(ConfigError, match=r"238 or 239 modules; best\.pt has 282"):
        check_target(spec, zoo.build("yolo26n.yaml"))
    with pytest.raises(ConfigError, match=r"takes detect, segment, pose, classify; best\.pt is a model of task obb"):
        check_target(spec, SimpleNamespace(task="obb", modules=lambda: ()))
    check_target(load_spec(workplace / "study.yaml", {"target": "coral"}), zoo.build("yolo26n.yaml"))


def test_a_format_that_there_is_not_is_a_fault_of_the_target(workplace: Path) -> None:
    (workplace / "mine.yaml").write_text("device: x\nexport: {format: imx500}\n")
    spec = load_spec(workplace / "study.yaml", {"target": "mine.yaml"})
    with pytest.raises(ConfigError, match="exported as 'imx500', which is no format") as caught:
        check_target(spec, zoo.build("yolov8n.yaml"))
    assert caught.value.near == "imx"


def test_a_rectangle_is_whole_strides_and_not_for_a_classifier() -> None:
    check_sizes(model(stride=64), [640, (384, 640)])
    with pytest.raises(ConfigError, match="96x640 is not a multiple of 64") as refused:
        check_sizes(model(stride=64), [(96, 640)])
    assert "expected: 128x640" in str(refused.value) and refused.value.exit_code == 2
    check_sizes(model(task="classify"), [224])
    with pytest.raises(ConfigError, match="96x640: a classifier is trained and validated on squares") as refused:
        check_sizes(model(task="classify"), [(96, 640)])
    assert "one side, such as 640" in str(refused.value)


def test_a_release_that_knows_squares_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overrides, "installed", lambda: "8.4.175")
    check_sizes(model(), [640])
    with pytest.raises(ConfigError, match=r"384x640: Ultralytics 8\.4\.175 has no input sizes of two sides") as refused:
        check_sizes(model(), [640, (384, 640)])
    assert "imgsz=640" in str(refused.value) and refused.value.exit_code == 2
    check_sizes(torch.nn.Linear(1, 1), [(37, 40)])  # a network of the user's own


def test_the_size_of_the_base_is_checked_beside_those_that_are_searched(workplace: Path) -> None:
    asked = {"imgsz": [224, 320], "space.imgsz": [224]}
    spec = load_spec(workplace / "study.yaml", asked)
    with pytest.raises(ConfigError, match="224x320: a classifier is trained and validated on squares"):
        check_before(spec, model(task="classify"))


@pytest.mark.parametrize(
    ("figure", "latency", "said"),
    [
        ("e2e_ms", {"runtime": "tensorrt"}, "e2e_ms is not timed on tensorrt"),
        ("memory_mb", {"runtime": "torch"}, "a process that runs an exported file, and torch runs none"),
        ("energy_mj", {"runtime": "openvino", "device": "GPU"}, "NVIDIA's GPUs, and OpenVINO computes on GPU"),
        ("memory_mb", {"runtime": "onnxruntime", "device": 0}, "onnxruntime computes on another device"),
    ],
)
@pytest.mark.parametrize("where", ["objectives", "constraints", "budgets"])
def test_what_a_runtime_cannot_measure_is_refused(
    workplace: Path, where: str, figure: str, latency: dict[str, Any], said: str
) -> None:
    named: dict[str, Any] = {
        "objectives": ["map50_95", figure],
        "constraints": {figure: 30},
        "budgets": {"edge": {figure: "80%"}},
    }
    spec = load_spec(workplace / "study.yaml", {where: named[where], "latency": latency})
    assert spec.deployed == (figure,)
    with pytest.raises(ConfigError, match=said) as refused:
        check_deployed(spec)
    assert "command:" in str(refused.value.expected)
    check_deployed(load_spec(workplace / "study.yaml", {"latency": latency}))


@pytest.mark.parametrize("latency", [{}, {"runtime": "openvino", "device": "CPU"}])
def test_energy_without_a_counter_is_refused_before_work(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, latency: dict[str, Any]
) -> None:
    monkeypatch.setattr(energy, "POWERCAP", workplace / "powercap")
    spec = load_spec(workplace / "study.yaml", {"objectives": ["map50_95", "energy_mj"], "latency": latency})
    with pytest.raises(CounterMissing, match="no counter of a processor's package") as refused:
        check_deployed(spec)
    assert exit_code(refused.value) == 4
    program = {"latency.runtime": "command:true", "objectives": ["map50_95", "energy_mj"]}
    check_deployed(load_spec(workplace / "study.yaml", program))


def test_figures_of_ones_own_need_somebody_who_measures_them(workplace: Path) -> None:
    said = {"figures": {"temperature_c": {"unit": "C", "direction": "min"}}}
    with pytest.raises(ConfigError, match="nothing measures temperature_c"):
        check_deployed(load_spec(workplace / "study.yaml", said))
    spec = load_spec(workplace / "study.yaml", {**said, "latency.runtime": "command:true"})
    check_deployed(spec)
    assert OBJECTIVES["temperature_c"].is_cost, "no accuracy: a pick by it would be nonsense"


@pytest.mark.parametrize("name", ["e2e_ms", "weights_mb"])
def test_a_base_from_before_a_cost_was_named_is_refused_with_what_to_do(workplace: Path, name: str) -> None:
    spec = load_spec(workplace / "study.yaml", {"budgets": {"edge": {name: 5}}})
    base = Measurement({name: Estimate.exact(1.0) for name in ("map50_95", "latency_ms", "params_m")})
    with pytest.raises(ConfigError, match=rf"the base has no {name}: .*start a new run with name=NEW_NAME"):
        check_objectives(spec, base)
