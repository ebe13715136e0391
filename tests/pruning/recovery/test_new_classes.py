"""Other classes: the class layers are new, all else is the pruned network, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pruning import Plan
from pruning.errors import RecoveryError
from pruning.recovery.new_classes import with_classes
from tests.pruning import zoo

NAMES = ("dark", "grey", "striped")
CLASS_LAYERS = {"yolov8n.yaml": 3, "yolov10n.yaml": 6, "yolo26n-seg.yaml": 7, "yolov8n-cls.yaml": 1}


def pruned(name: str) -> Any:
    model = zoo.for_tiny_data(name)
    if name != "yolov8n.yaml":
        return model
    plan: Plan = zoo.traced(name).plan(0.5)  # of 80 classes, whose outputs are frozen
    small: Any = plan.apply(zoo.build(name))
    small.names = dict(enumerate(map(str, range(80))))
    return with_classes(small, ("dark", "bright"))


@pytest.mark.parametrize(
    "name",
    [
        "yolov8n.yaml",
        "yolov8n-cls.yaml",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("yolov10n.yaml", "yolo26n-seg.yaml")),
    ],
)
def test_only_the_class_layers_are_new(name: str) -> None:
    model = pruned(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    made: Any = with_classes(model, NAMES)
    after = made.state_dict()
    assert list(after) == list(before) and all(torch.equal(model.state_dict()[key], before[key]) for key in before)
    changed = [key for key in before if before[key].shape != after[key].shape]
    assert len(changed) == 2 * CLASS_LAYERS[name] and all(after[key].shape[0] == 3 for key in changed)
    assert all(torch.equal(after[key], before[key]) for key in before if key not in changed)
    assert all(torch.equal(after[key][0], before[key][0]) for key in changed), "dark is dark"
    assert made.names == dict(enumerate(NAMES)) and made.yaml["nc"] == 3 and model.names[1] == "bright"
    with torch.no_grad():
        found = zoo.outputs(made.eval()(zoo.picture()))[0]
    channels = {"yolov8n.yaml": (1, 7), "yolov8n-cls.yaml": (1, 3)}.get(name)
    assert channels is None or found.shape[:2] == channels


def test_a_head_that_takes_no_other_classes_is_refused() -> None:
    model: Any = zoo.for_tiny_data("yolov8n-cls.yaml")
    model.model[-1] = torch.nn.Identity()
    with pytest.raises(RecoveryError, match="Identity cannot be given other classes"):
        with_classes(model, NAMES)
