"""Published figures, worked out again on today's Ultralytics."""

from __future__ import annotations

import torch
from torch import nn

import pruning
from pruning.checkpoints.checkpoint import count_parameters
from tests.pruning import zoo

BLOCKS = (2, 4, 6, 8, 12, 15, 18, 21)


def yolov8n_of_seven_classes() -> nn.Module:
    from ultralytics.nn.tasks import DetectionModel

    return DetectionModel("yolov8n.yaml", nc=7, verbose=False).eval()


def test_ten_convolutions_of_yolov8n() -> None:
    """A published report removes 15 % of ten first convolutions of C2f bottlenecks and counts 141,800 parameters.

    Its channel table (624 -> 536) gives 136,688: 9 (in + out) for each filter and 2 for its batch norm. So do we.
    """
    model = yolov8n_of_seven_classes()
    assert count_parameters(model) == 3_012_213
    graph = pruning.trace(model, zoo.picture())
    names = [g.name for g in graph.free if g.name.endswith(".cv1") and g.name.startswith(tuple(_chains()))]
    assert len(names) == 10
    plan = graph.plan(dict.fromkeys(names, 0.15))
    removed = graph.cost().params - plan.cost().params
    assert removed == sum(_by_hand(model, name, plan.widths[name]) for name in names) == 136_688
    assert count_parameters(plan.apply(model)) == plan.cost().params == 2_875_525


def _chains() -> list[str]:
    return [f"model.{block}.m." for block in BLOCKS]


def _by_hand(model: nn.Module, name: str, width: int) -> int:
    """Parameters that go when the first convolution of a bottleneck keeps `width` filters."""
    bottleneck = model.get_submodule(name.removesuffix(".cv1"))
    filters, inputs, *_ = bottleneck.cv1.conv.weight.shape
    outputs = bottleneck.cv2.conv.weight.shape[0]
    return int((filters - width) * (9 * inputs + 9 * outputs + 2))


def test_yolov8x_reaches_the_published_size() -> None:
    """A published result cuts yolov8x at 640 px from 129.1 GMACs and 68.2 M parameters to 41.7 G and 20.8 M.

    129.1 counts batch norms too; the convolutions alone, which `cost` counts, are 128.9. A uniform 0.45 in steps of 8
    is below both figures. `benchmarks/yolov8x.py` trains a step and exports what comes out.

    Traced at 64 px, where every map has exactly a hundredth of the places that it has at 640 px.
    """
    graph = pruning.trace(zoo.build("yolov8x.yaml"), torch.zeros(1, 3, 64, 64))
    assert graph.cost() == pruning.Cost(params=68_229_648, macs=128_902_169_600 // 100)
    small = graph.plan(0.45, round_to=8).cost()
    assert small.macs * 100 <= 41.7e9 and small.params <= 20.8e6
    assert small == pruning.Cost(params=20_745_616, macs=39_871_718_400 // 100)
