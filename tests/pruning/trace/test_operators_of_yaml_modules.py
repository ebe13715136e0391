"""Every module and activation that a model YAML can name: what is pruned computes what the mask computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from ultralytics.nn import modules
from ultralytics.nn.modules.block import RepVGGDW

import pruning
from pruning.checkpoints.checkpoint import count_parameters
from tests.pruning import zoo

SIZE = 16
WIDE = 16
MODULES: dict[str, Callable[[], nn.Module]] = {
    "ADown": lambda: modules.ADown(WIDE, WIDE),
    "A2C2f": lambda: nn.Sequential(modules.Conv(WIDE, 64), modules.A2C2f(64, 64), modules.Conv(64, WIDE)),
    "AConv": lambda: modules.AConv(WIDE, WIDE),
    "AIFI": lambda: modules.AIFI(WIDE, 32, 4),
    "Bottleneck": lambda: modules.Bottleneck(WIDE, WIDE),
    "BottleneckCSP": lambda: modules.BottleneckCSP(WIDE, WIDE),
    "C1": lambda: modules.C1(WIDE, WIDE),
    "C2": lambda: modules.C2(WIDE, WIDE),
    "C2PSA": lambda: nn.Sequential(modules.Conv(WIDE, 128), modules.C2PSA(128, 128), modules.Conv(128, WIDE)),
    "C2f": lambda: modules.C2f(WIDE, WIDE),
    "C2fCIB": lambda: modules.C2fCIB(WIDE, WIDE),
    "C2fPSA": lambda: nn.Sequential(modules.Conv(WIDE, 128), modules.C2fPSA(128, 128), modules.Conv(128, WIDE)),
    "C3": lambda: modules.C3(WIDE, WIDE),
    "C3Ghost": lambda: modules.C3Ghost(WIDE, WIDE),
    "C3TR": lambda: modules.C3TR(WIDE, WIDE),
    "C3k2": lambda: modules.C3k2(WIDE, WIDE, c3k=True),
    "C3x": lambda: modules.C3x(WIDE, WIDE),
    "Conv2": lambda: modules.Conv2(WIDE, WIDE),
    "ConvTranspose": lambda: modules.ConvTranspose(WIDE, WIDE),
    "DWConv": lambda: modules.DWConv(WIDE, WIDE, 3),
    "DWConvTranspose2d": lambda: modules.DWConvTranspose2d(WIDE, WIDE, 2, 2),
    "ELAN1": lambda: modules.ELAN1(WIDE, WIDE, WIDE, 8),
    "Focus": lambda: modules.Focus(WIDE, WIDE),
    "GhostBottleneck": lambda: modules.GhostBottleneck(WIDE, WIDE),
    "GhostConv": lambda: modules.GhostConv(WIDE, WIDE),
    "HGBlock": lambda: modules.HGBlock(WIDE, 8, WIDE, n=2),
    "LightConv": lambda: modules.LightConv(WIDE, WIDE),
    "PSA": lambda: nn.Sequential(modules.Conv(WIDE, 128), modules.PSA(128, 128), modules.Conv(128, WIDE)),
    "RepC3": lambda: modules.RepC3(WIDE, WIDE),
    "RepConv": lambda: modules.RepConv(WIDE, WIDE),
    "RepNCSPELAN4": lambda: modules.RepNCSPELAN4(WIDE, WIDE, WIDE, 8),
    "RepVGGDW": lambda: RepVGGDW(WIDE),
    "ResNetLayer": lambda: modules.ResNetLayer(WIDE, 4, n=2),
    "SCDown": lambda: modules.SCDown(WIDE, WIDE, 3, 2),
    "SPP": lambda: modules.SPP(WIDE, WIDE),
    "SPPELAN": lambda: modules.SPPELAN(WIDE, WIDE, 8),
    "SPPF": lambda: modules.SPPF(WIDE, WIDE),
    "TransformerBlock": lambda: modules.TransformerBlock(WIDE, WIDE, 2, 2),
    "TransformerBlock of another width": lambda: nn.Sequential(
        modules.TransformerBlock(WIDE, 24, 2, 1), modules.Conv(24, WIDE)
    ),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "PReLU": nn.PReLU,
    "PReLU of each channel": lambda: nn.PReLU(WIDE),
    "RReLU": nn.RReLU,
    "Threshold": lambda: nn.Threshold(0.1, -0.2),
    **{
        kind.__name__: kind
        for kind in (nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU)
    },
    **{kind.__name__: kind for kind in (nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid)},
    **{kind.__name__: kind for kind in (nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink)},
}


def _between(middle: nn.Module) -> nn.Module:
    """A network in which `middle` has prunable neighbours."""
    return nn.Sequential(modules.Conv(3, WIDE, 3), middle, modules.Conv(WIDE, 24, 3), nn.Conv2d(24, 4, 1))


def _pruned(model: nn.Module) -> tuple[pruning.ChannelGraph, float]:
    """Its graph, and the largest difference between the pruned and the masked network; the pruned one has learnt."""
    model = zoo.seeded(model).double().eval()
    x = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()
    graph = pruning.trace(model, x)
    plan = graph.plan(0.4, "l2")
    small, masked = plan.apply(model), plan.mask(model)
    assert count_parameters(small) == plan.cost().params < count_parameters(model)
    with torch.no_grad():
        assert not torch.allclose(masked(x), model(x)), "the mask changed nothing"
        difference = float((small(x) - masked(x)).abs().max())
    small.train()
    small(torch.cat([x, x])).sum().backward()
    return graph, difference


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_a_yaml_is_pruned_as_it_is_masked(name: str) -> None:
    graph, difference = _pruned(_between(MODULES[name]()))
    assert difference < 1e-12
    assert {group.layers[0] for group in graph.free} & {"0.conv", "2.conv"}, "its neighbours are free"


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_keeps_channels_free(name: str) -> None:
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, WIDE, 3), nn.Conv2d(WIDE, 24, 3)
    model = nn.Sequential(first, ACTIVATIONS[name](), second, nn.ReLU(), nn.Conv2d(24, 4, 1))
    graph, difference = _pruned(model)
    assert difference < 1e-12 and not graph.unsupported
    assert {group.layers[0] for group in graph.free} == {"0", "2"}
