"""The ceiling of the IMX500: its numbers are those of the installed exporter, its count is that of Sony's toolkit."""

from __future__ import annotations

import math

import pytest

from objectives.weights import kernel_weights, module_count
from search.config.targets.limits import Limits, Network, family_of_blocks, largest_size
from search.config.targets.pack import read_pack
from tests.pruning import zoo

TOOLKIT = {
    ("yolov8n.yaml", 640): 3_188_176,
    ("yolov8n.yaml", 320): 3_156_676,
    ("yolov8n-pose.yaml", 640): 3_342_910,
    ("yolo11n-seg.yaml", 320): 2_870_388,
    ("yolov8n-cls.yaml", 224): 2_711_472,
}
"""Bytes of weights at 8 bits, by `ResourceUtilizationCalculator` of model-compression-toolkit 2.6.1 with the IMX500
capabilities 4.0 of edge-mdt-tpc 1.3.0, of the network as Ultralytics 8.4.190 hands it over."""


@pytest.mark.parametrize(("name", "size"), TOOLKIT)
def test_weights_are_counted_as_sonys_toolkit_does(name: str, size: int) -> None:
    model = zoo.build(name)
    family = family_of_blocks({type(module).__name__ for module in model.modules()})
    limits = read_pack("imx500").network(family, zoo.task_of(name))
    assert limits is not None
    assert kernel_weights(model) + round(1e6 * limits.constants_mb(size)) == TOOLKIT[name, size]
    assert module_count(model) in limits.modules


def test_the_numbers_are_those_of_the_installed_exporter() -> None:
    from ultralytics.utils.export.imx import MCT_CONFIG

    ours = read_pack("imx500").networks
    assert {name.lower(): set(tasks) for name, tasks in MCT_CONFIG.items()} == {n: set(t) for n, t in ours.items()}
    theirs = {(name.lower(), task): said for name, tasks in MCT_CONFIG.items() for task, said in tasks.items()}
    for (family, task), found in {(f, t): one for f, tasks in ours.items() for t, one in tasks.items()}.items():
        most = math.inf if found.weights_mb is None else 1e6 * found.weights_mb
        assert most == pytest.approx(theirs[family, task]["weights_memory"], abs=0.01), (family, task)
        assert set(found.modules) == theirs[family, task]["n_layers"], (family, task)


def test_what_is_left_for_kernels_never_exceeds_the_ceiling() -> None:
    network = Network(weights_mb=2.5505408, constants=5)
    left = network.kernels_mb(640)
    assert left == 2.50854 and left + network.constants_mb(640) <= 2.5505408
    assert network.constants_mb((384, 640)) == 5 * 5040 / 1e6
    assert Network(constants=5).kernels_mb(640) is None


def test_one_ceiling_is_for_every_network_and_a_table_for_its_own() -> None:
    assert Limits(weights_mb=8).network("yolo11", "obb") == Network(weights_mb=8)
    table = Limits(networks={"yolov8": {"detect": Network(weights_mb=2)}})
    assert table.network("yolov8", "obb") is None is table.network("yolo11", "detect") and table.tasks == ("detect",)


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ({}, 640),
        ({"imgsz": 320}, 320),
        ({"imgsz": 320, "space": {"imgsz": [96, 448]}}, 448),
        ({"imgsz": [384, 640], "space": {"imgsz": 320}}, (384, 640)),
        ({"imgsz": "384x640", "space": {"imgsz": 320}}, (384, 640)),
        ({"imgsz": 320, "space": {"imgsz": [[320, 512], "384x640", 448]}}, (384, 640)),
        ({"imgsz": 320, "space": {"imgsz": "1280, 640"}}, 1280),
        ({"imgsz": 320, "space": {"imgsz": "384x640,448"}}, (384, 640)),
        ({"imgsz": "big", "space": ["x"]}, 640),
        ({"imgsz": True, "space": {"imgsz": {"a": 1}}}, 640),
    ],
)
def test_constants_are_those_of_the_largest_input(study: dict[str, object], expected: object) -> None:
    assert largest_size(study, 640) == expected
