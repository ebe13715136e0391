"""Other classes for a trained network: new class layers, and everything else as it is.

A pruned network is worth as much on related data with other classes, and YOLO.train would rebuild all of it at full
size for them. Here only the last convolution of each class branch is made anew (of a classifier the linear layer), with
the initial bias of Ultralytics' `Detect.bias_init`. Rows of classes that have the same name in both stay as they are.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from ultralytics.nn.modules.head import Classify, Detect, WorldDetect, YOLOEDetect

from pruning.errors import RecoveryError


@dataclass(frozen=True)
class _ClassLayer:
    """A layer with one output a class: item `key` of `parent`, and the initial bias of a new class, if it has one."""

    parent: Any
    key: int | str
    bias: float | None = None

    @property
    def layer(self) -> Any:
        return self.parent[self.key] if isinstance(self.key, int) else getattr(self.parent, self.key)

    def replace(self, layer: nn.Module) -> None:
        if isinstance(self.key, int):
            self.parent[self.key] = layer
        else:
            setattr(self.parent, self.key, layer)


def with_classes(model: nn.Module, names: Sequence[str], seed: int = 0) -> nn.Module:
    """Return a copy of an Ultralytics network, pruned or not, that answers for other classes.

    All other weights, statistics and widths are those of `model`.

    Args:
        names: of the classes, by number.
        seed: of the new weights.

    Raises:
        RecoveryError: its head has no class layers that can be replaced (RT-DETR, heads that take texts).
    """
    made: Any = copy.deepcopy(model)
    head = made.model[-1]
    before = [str(made.names[number]) for number in sorted(made.names)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for place in list(_class_layers(head, len(names))):
            if _outputs(place.layer) != len(before):
                raise RecoveryError(f"a class layer has {_outputs(place.layer)} outputs for {len(before)} classes")
            place.replace(_renewed(place, before, names))
    if isinstance(head, Detect):
        head.nc, head.no = len(names), len(names) + 4 * head.reg_max
    made.nc, made.names = len(names), dict(enumerate(names))
    if isinstance(getattr(made, "yaml", None), dict):
        made.yaml = {**made.yaml, "nc": len(names)}
    return made  # type: ignore[no-any-return]


def _class_layers(head: Any, count: int) -> Iterator[_ClassLayer]:
    if isinstance(head, Classify):
        yield _ClassLayer(head, "linear")
        return
    if not isinstance(head, Detect) or isinstance(head, WorldDetect | YOLOEDetect):
        raise RecoveryError(
            f"{type(head).__name__} cannot be given other classes: give data with the classes that it was trained for"
        )
    for branches in ("cv3", "one2one_cv3"):
        for number, branch in enumerate(getattr(head, branches, None) or ()):
            share = 5 / count / (640 / float(head.stride[number])) ** 2
            yield _ClassLayer(branch, len(branch) - 1, math.log(share))
    semantic = getattr(getattr(head, "proto", None), "semseg", None)
    if semantic is not None:
        yield _ClassLayer(semantic, len(semantic) - 1)


def _outputs(layer: Any) -> int:
    return int(layer.weight.shape[0])


def _renewed(place: _ClassLayer, before: Sequence[str], names: Sequence[str]) -> nn.Module:
    """Return a layer for `names`, with the rows of `before` where a name is in both and in each only once."""
    old, count = place.layer, len(names)
    new: Any
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, count)
    else:
        new = nn.Conv2d(old.in_channels, count, old.kernel_size, bias=old.bias is not None)
    with torch.no_grad():
        if place.bias is not None and new.bias is not None:
            new.bias.fill_(place.bias)
        for number, name in enumerate(names):
            if before.count(name) == 1 == list(names).count(name):
                new.weight[number] = old.weight[before.index(name)]
                if new.bias is not None:
                    new.bias[number] = old.bias[before.index(name)]
    return new.to(old.weight.device, old.weight.dtype).train(old.training)  # type: ignore[no-any-return]
