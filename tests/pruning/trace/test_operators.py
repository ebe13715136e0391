"""Operators without a rule: their channels stay, their multiply-accumulates are counted, and the rest is pruned."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import pruning
from pruning.checkpoints.checkpoint import count_parameters
from pruning.trace.tracer import strip_root
from tests.pruning import zoo

SIZE = 8


class Fixed(nn.Module):
    """A convolution, a product that has no rule, a convolution: the product's weight is made from another tensor."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        shapes = {
            "linear": (10, 12),
            "conv2d": (10, 12, 3, 3),
            "conv_transpose2d": (12, 10, 2, 2),
            "conv1d": (10, 12, 3),
        }
        self.kind = kind
        self.first, self.middle = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 12, 1)
        self.made = nn.Parameter(torch.rand(shapes.get(kind, (10, 12))))
        self.last, self.out = nn.Conv2d(10, 16, 3), nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 8, 8) -> (B, 4, h, w)."""
        return self.out(self.last(self.product(self.middle(self.first(x).relu()))).relu())  # type: ignore[no-any-return]

    def product(self, x: Tensor) -> Tensor:
        """(B, 12, 8, 8) -> (B, 10, h, w)."""
        weight = self.made.exp()
        if self.kind == "conv2d":
            return functional.conv2d(x, weight, stride=2, padding=2)
        if self.kind == "conv_transpose2d":
            return functional.conv_transpose2d(x, weight, stride=2)
        if self.kind == "conv1d":
            return functional.conv1d(x.flatten(2), weight, padding=1).reshape(x.shape[0], 10, SIZE, SIZE)
        places = x.flatten(2).transpose(1, 2)  # (B, 64, 12)
        found = functional.linear(places, weight) if self.kind == "linear" else places @ weight.t()
        return found.transpose(1, 2).reshape(x.shape[0], 10, SIZE, SIZE)


@pytest.mark.parametrize("kind", ["linear", "matmul", "conv1d", "conv2d", "conv_transpose2d"])
def test_a_product_without_a_rule_is_counted_and_left_alone(kind: str) -> None:
    model = copy.deepcopy(zoo.seeded(Fixed(kind))).double()
    x = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()
    graph = pruning.trace(model, x)
    assert {group.layers[0] for group in graph.free} >= {"first", "last"}
    frozen = {layer for group in graph.groups if group.frozen for layer in group.layers}
    assert "middle" in frozen, "its channels meet the product"
    assert all(group.layers for group in graph.free), "what no layer makes is not free"
    for plan in (graph.plan(0.0), graph.plan(0.5)):
        small = plan.apply(model)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            found = small(x)
        with torch.no_grad():
            assert zoo.worst_difference(found, plan.mask(model)(x)) < 1e-9
        assert plan.cost().macs * 2 == counter.get_total_flops()
        assert plan.cost().params == count_parameters(small)
    assert graph.plan(0.5).cost().macs < graph.cost().macs


@pytest.mark.parametrize(
    ("inside", "path"),
    [
        ("traced", ""),
        ("traced.model.4.cv1", "model.4.cv1"),
        ("traced.model.slice(None, -1, None).28.decoder", "model.28.decoder"),
        ("traced.slice(None, 3, None).0", "0"),
        ("model.4", "model.4"),
        ("traced_not.model", "traced_not.model"),
    ],
)
def test_paths_inside_the_export_become_paths_of_the_model(inside: str, path: str) -> None:
    assert strip_root(inside) == path


class Sliced(nn.Module):
    """Runs all layers but the last through a slice, as RT-DETR does; the slice gets into the paths of the export."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 12, 1), nn.Conv2d(12, 4, 1)]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 4, H - 2, W - 2)."""
        for layer in self.model[:-1]:
            x = layer(x).relu()
        return self.model[-1](x)  # type: ignore[no-any-return]


def test_a_model_that_slices_its_layers_is_followed() -> None:
    model = zoo.seeded(Sliced())
    x = torch.rand(1, 3, SIZE, SIZE)
    graph = pruning.trace(model, x)
    assert [group.name for group in graph.free] == ["model.0", "model.2"] and not graph.unsupported
    plan = graph.plan(0.5)
    small = plan.apply(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        assert zoo.worst_difference(small(x), plan.mask(model)(x)) < 1e-5
    assert plan.cost().params == count_parameters(small)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        small(x)
    assert plan.cost().macs * 2 == counter.get_total_flops()
