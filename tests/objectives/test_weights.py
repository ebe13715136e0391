"""What is counted as weights is what is deployed."""

from __future__ import annotations

import pytest
from torch import nn

from objectives.weights import deployed, kernel_weights, module_count
from tests.pruning import zoo


def test_kernels_count_and_biases_and_norms_do_not() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert kernel_weights(plain) == 3 * 4 * 9 + 4 * 2


@pytest.mark.parametrize(("name", "modules"), [("yolov8n.yaml", 168), ("yolo11n.yaml", 238)])
def test_batch_norms_are_fused_and_the_model_stays_as_it_was(name: str, modules: int) -> None:
    model = zoo.build(name)
    before = sum(1 for _ in model.modules())
    assert module_count(model) == modules < before == sum(1 for _ in model.modules())
    assert kernel_weights(model) == sum(value.numel() for value in model.parameters() if value.ndim > 1)


def test_of_two_heads_one_is_deployed() -> None:
    model = zoo.build("yolo26n.yaml")
    both = sum(value.numel() for value in model.parameters() if value.ndim > 1)
    names = [name for name, _ in deployed(model).named_parameters()]
    assert kernel_weights(model) < both
    assert any(".cv3." in name for name in names) and not any("one2one" in name for name in names)
