"""Use of detection levels: by what the network's own assigner gives to those that speak."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from pruning.recovery.finetune import Recovery, data_trainer
from pruning.recovery.judge import TrainingLoss
from pruning.recovery.level_use import level_use, share_lost
from pruning.structure.level_removal import remove_levels
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data

SILENT = -100.0
"""Of a class score's bias: assignment multiplies scores with the sixth power of an overlap, which varies much."""


def speaking(name: str, level: int) -> Any:
    """A network for the tiny data of which one level alone has class scores.

    Its boxes reach two cells to each side, so every level overlaps every object in its middle.
    """
    model: Any = zoo.for_tiny_data(name)
    head = model.model[-1]
    branches = [(head.cv3, head.cv2)]
    branches += [(head.one2one_cv3, head.one2one_cv2)] if hasattr(head, "one2one_cv3") else []
    triples = [one for scores, boxes in branches for one in zip(range(3), scores, boxes, strict=True)]
    for number, score, box in triples:
        torch.nn.init.zeros_(score[-1].weight)
        torch.nn.init.constant_(score[-1].bias, 0.0 if number == level else SILENT)
        torch.nn.init.zeros_(box[-1].weight)
        bins = box[-1].bias.data.zero_().view(4, head.reg_max)
        bins[:, min(2, head.reg_max - 1)] = 20.0 if head.reg_max > 1 else 2.0
    return model


@pytest.mark.parametrize(
    ("name", "level"),
    [("yolov8n.yaml", 0), ("yolo26n.yaml", 1), pytest.param("yolov8n-obb.yaml", 0, marks=pytest.mark.slow)],
)
def test_the_level_that_speaks_is_used_and_the_others_are_idle(name: str, level: int, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", zoo.task_of(name))
    model = speaking(name, level)
    before = model.args
    found = level_use(model, data, imgsz=64, device="cpu", work_dir=tmp_path / "work")
    assert found is not None and (found.images, found.objects) == (12, 12)
    names = ["P3", "P4", "P5"]
    assert list(found.shares) == names and sum(found.shares.values()) == pytest.approx(1.0)
    assert found.shares[names.pop(level)] > 0.99 and found.idle() == tuple(names)
    assert model.args is before and model.criterion is None and not model.training, "as it was"


def test_without_levels_or_objects_there_is_nothing_to_count(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data")
    where = {"imgsz": 64, "device": "cpu", "work_dir": tmp_path / "work"}
    assert level_use(zoo.build("yolov8n-cls.yaml"), data, **where) is None  # type: ignore[arg-type]
    for labels in (tmp_path / "data" / "labels" / "train").glob("*.txt"):
        labels.write_text("")
    assert level_use(zoo.for_tiny_data("yolov8n.yaml"), data, **where) is None  # type: ignore[arg-type]


def test_what_a_lost_level_did_is_damage_though_no_loss_shows_it(tmp_path: Path) -> None:
    base = speaking("yolov8n.yaml", 0)
    data = make_tiny_data(tmp_path / "data")
    judge = TrainingLoss.of(data_trainer(base, data, Recovery(imgsz=64), tmp_path / "work"))
    for levels, share in (((), 0.0), (("P4", "P5"), 0.0), (("P3",), 1.0)):
        without = remove_levels(copy.deepcopy(base), levels)
        losses, lost = share_lost(without, base, judge.losses)
        assert losses.tolist() == judge.losses(base).tolist() and lost == pytest.approx(share, abs=0.01)
