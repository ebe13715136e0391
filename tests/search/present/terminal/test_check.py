"""What `check` says first, what only on demand, and what of detection levels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from rich.console import Console

from search.present.terminal.check import level_lines, render_check

NAMES = [f"model.{number}.cv1" for number in range(60)]
FACTS: dict[str, Any] = {
    "environment": {"torch": "2.15", "device": "cpu"},
    "left_out": ["1 of 12 training images left out"],
    "groups": [
        *({"name": name, "size": 64, "frozen": None} for name in NAMES),
        {"name": "model.99", "size": 4, "frozen": "a true output"},
    ],
    "dimensions": {name: [name] for name in NAMES},
    "depth": True,
    "blocks": ["model.2.m.0"],
    "unsupported": [],
    "reach": {"latency_ms": {"base": 10.0, "least": 2.0}},
    "budgets": {
        "edge": {"limits": ["latency_ms<=5"], "reachable": True, "by_base": False, "forecast": None},
        "never": {"limits": ["latency_ms<=1"], "reachable": False, "by_base": False, "forecast": None},
    },
    "time": {"trial_s": 60.0, "total_s": 3600.0, "trials": 60, "from": "some batches of the real training"},
}


def shown(more: Mapping[str, Any] = MappingProxyType({}), **options: Any) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=80).print(render_check(FACTS | more, **options))
    return text.getvalue().splitlines()


def test_what_the_installed_ultralytics_lacks_stands_below_the_versions() -> None:
    gap = "Ultralytics 8.3.200 has no YOLO26 (since 8.4.0): its models cannot be loaded"
    lines = shown({"lacking": [gap]})
    assert lines.index("torch   2.15") < lines.index(gap)


def test_the_answer_comes_first_and_the_table_on_demand() -> None:
    lines = shown()
    assert lines[0] == "edge (latency_ms<=5): can be met" and "cannot be met" in lines[2]
    assert lines[3].startswith("a trial takes about 60 s, 60 trials about 60 min")
    assert len(lines) < 24 and "60 groups of channels can be pruned, 1 cannot" in lines
    assert "  1: a true output" in lines and "1 of 12 training images left out" in lines
    assert lines[-1] == "60 ratios are searched; --groups lists them"
    whole = shown(with_groups=True)
    assert whole[: len(lines) - 1] == lines[:-1]
    assert [line.split() for line in whole[-60:]] == [[name, "1", "64"] for name in NAMES]


USE = {"images": 128, "objects": 1790, "shares": {"P3": 0.9976, "P4": 0.002, "P5": 0.0004}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, []),
        (
            {**USE, "idle": ["P5"], "offered": []},
            ["P5 gets under 0.1 % of the assignments:", "  space.levels=true offers to remove it"],
        ),
        (
            {**USE, "idle": ["P4", "P5"], "offered": []},
            ["P4 and P5 get 0.24 % of the assignments:", "  space.levels=true offers to remove them"],
        ),
        ({**USE, "idle": ["P4", "P5"], "offered": ["P4", "P5"]}, ["P4 and P5 can be removed whole"]),
        ({**USE, "idle": [], "offered": []}, []),
    ],
)
def test_idle_levels_are_named_with_what_they_get(found: dict[str, Any] | None, expected: list[str]) -> None:
    lines = list(level_lines(found))
    assert lines[1:] == expected and all(len(line) < 80 for line in lines)
    if found is not None:
        assert lines[0] == "assignments of 1790 objects on 128 images: P3 99.8 %, P4 0.2 %, P5 under 0.1 %"


TARGET: dict[str, Any] = {
    "name": "imx500",
    "device": "IMX500",
    "sets": {"space.precision": ["int8"], "constraints.weights_mb": "<=2.50854"},
    "kept": {"space.round_to": 8},
    "forbidden": {"space.levels": "its export counts the modules"},
    "measured": ["latency is that of onnxruntime on this machine, a stand-in"],
    "notes": ["a note"],
    "sources": ["https://example.org"],
    "export": {"format": "imx", "quantize": 8},
    "fits": [{"base": "yolov8s", "ratio": 0.57, "mb": 2.228752, "limit_mb": 2.5505408}],
}


def test_a_target_comes_first_with_what_it_set_and_what_stands_in_for_it() -> None:
    text = io.StringIO()
    use = {**USE, "idle": ["P5"], "offered": []}
    Console(file=text, width=200).print(render_check({**FACTS, "target": TARGET, "levels": use}))
    lines = [line.strip() for line in text.getvalue().splitlines()]
    assert lines[0] == "yolov8s fits the IMX500 from ratio 0.57 on: 2.229 of 2.551 MB"
    assert lines[1] == "target imx500 sets space.precision: [int8], constraints.weights_mb: <=2.50854"
    assert lines[2:8] == [
        "space.round_to is the study's own; target imx500 has 8",
        "space.levels is off: its export counts the modules",
        "latency is that of onnxruntime on this machine, a stand-in",
        "a note",
        "deliver: paretoprune export RUN:pick format=imx quantize=8",
        "sources: https://example.org",
    ]
    assert not any("offers to remove" in line for line in lines), "a level that may not go is not offered"
