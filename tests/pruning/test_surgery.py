"""apply and mask leave the given model alone and give a module of stock classes that stands on its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pruning.checkpoints.checkpoint import count_parameters, save_model
from tests.pruning import zoo


@pytest.mark.parametrize("name", zoo.DETECTORS)
def test_the_model_given_is_not_changed(name: str) -> None:
    model, graph = zoo.build(name), zoo.traced(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    plan = graph.plan(0.5)
    small = plan.apply(model)
    plan.mask(model)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", zoo.DETECTORS)
def test_nothing_is_shared_with_the_base(name: str) -> None:
    model = zoo.build(name)
    small = zoo.traced(name).plan(0.3).apply(model)
    theirs = {tensor.data_ptr() for tensor in model.state_dict().values() if tensor.numel()}
    ours = {tensor.data_ptr() for tensor in small.state_dict().values() if tensor.numel()}
    assert not theirs & ours
    assert {type(m) for m in small.modules()} == {type(m) for m in model.modules()}


def test_ratio_zero_is_the_model_itself() -> None:
    model, graph = zoo.build("yolov8n.yaml"), zoo.traced("yolov8n.yaml")
    same = graph.plan(0.0).apply(model)
    assert count_parameters(same) == count_parameters(model)
    with torch.no_grad():
        assert zoo.worst_difference(same(zoo.picture()), model(zoo.picture())) == 0


def test_attributes_follow_the_tensors() -> None:
    small = zoo.traced("yolo11n.yaml").plan(0.5).apply(zoo.build("yolo11n.yaml"))
    for module in small.modules():
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.shape[0] == module.out_channels
            assert module.weight.shape[1] * module.groups == module.in_channels
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.weight.shape[0] == module.num_features
        if type(module).__name__ == "C3k2":
            assert module.c * 2 == module.cv1.conv.out_channels


ALONE = """
import sys
from ultralytics import YOLO
assert not any(name in sys.modules for name in ("pruning", "search", "objectives"))
import numpy as np
for path in sys.argv[1:]:
    model = YOLO(path)
    result = model.predict(np.zeros((64, 64, 3), np.uint8), imgsz=64, device="cpu", verbose=False)
    print(path, sum(p.numel() for p in model.model.parameters()), len(result))
"""


def test_a_saved_model_opens_in_plain_ultralytics(tmp_path: Path) -> None:
    """All of them in one fresh interpreter: to start it costs more than to ask it."""
    expected = []
    for name in zoo.DETECTORS:
        small = zoo.traced(name).plan(0.4, round_to=8).apply(zoo.build(name))
        path = tmp_path / name.replace(".yaml", ".pt")
        save_model(small, path)
        expected.append(f"{path} {count_parameters(small)} 1")
        without = zoo.traced(name).plan(0.4, removed=("P5",)).apply(zoo.build(name))
        save_model(without, path := path.with_stem(f"{path.stem}-without-P5"))
        expected.append(f"{path} {count_parameters(without)} 1")
    paths = [line.split()[0] for line in expected]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, *paths], capture_output=True, text=True, cwd=tmp_path, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith(str(tmp_path))] == expected


def test_a_candidate_takes_little_more_memory_than_it_has() -> None:
    """At most a fifth more than the pruned model at any moment: nothing of full size is copied on the way."""
    from benchmarks.pruner_speed import peak_bytes

    model, graph = zoo.build("yolov8n.yaml"), zoo.traced("yolov8n.yaml")
    graph.plan(0.3).apply(model)
    for ratio in (0.0, 0.3, 0.5):
        peak, size, _ = peak_bytes(lambda ratio=ratio: graph.plan(ratio).apply(model))  # type: ignore[misc]
        assert size <= peak < 1.2 * size, ratio
