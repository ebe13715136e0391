"""trace: a module that breaks with fewer channels is found before anybody is handed a network that does not run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pruning import trace
from pruning.errors import TraceError


class FixedWidth(nn.Module):
    """Reshapes by a width that it keeps in an attribute, as attention blocks of many code bases do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.inner = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y.reshape(y.shape[0], self.width, -1).softmax(-1).reshape(y.shape)


class FixedView(FixedWidth):
    """The same, where the numbers do not fit."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).view(x.shape[0], self.width, *x.shape[2:])


def network(middle: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1), middle, nn.ReLU(), nn.Conv2d(16, 4, 1)
    )


def test_groups_of_a_module_that_reads_its_own_width_are_frozen_and_the_others_stay_free() -> None:
    model, example = network(FixedWidth(16)), torch.zeros(1, 3, 8, 8)
    graph = trace(model, example)
    assert [group.name for group in graph.free] == ["0", "2"]
    reasons = {group.name: group.frozen for group in graph.groups if group.frozen}
    assert any("not those of the masked network" in reason for reason in reasons.values())
    plan = graph.plan(0.5)
    image = torch.rand(1, 3, 8, 8)
    assert torch.allclose(plan.apply(model)(image), plan.mask(model)(image), atol=1e-6)
    assert plan.cost().params < graph.cost().params


def test_groups_of_a_module_that_does_not_run_are_frozen_with_its_error() -> None:
    graph = trace(network(FixedView(16)), torch.zeros(1, 3, 8, 8))
    frozen = [group.frozen or "" for group in graph.groups if group.name not in ("5", "input")]
    assert any("it does not run" in reason for reason in frozen) and graph.free


class NotANumber(FixedWidth):
    """Computes numbers at its full width only."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return y if y.shape[1] == self.width else y * float("nan")


def test_groups_without_which_a_module_computes_no_numbers_are_frozen() -> None:
    graph = trace(network(NotANumber(16)), torch.zeros(1, 3, 8, 8))
    assert any("not those of the masked network" in (group.frozen or "") for group in graph.groups)


def test_a_sound_network_is_run_and_stays_as_it_is() -> None:
    model = network(nn.Conv2d(16, 16, 1)).train()
    graph = trace(model, torch.zeros(1, 3, 8, 8))
    assert len(graph.free) == 3 and all(module.training for module in model.modules())


def test_a_network_that_does_not_run_here_is_told_from_one_that_cannot_be_exported() -> None:
    """A checkpoint of a fork has attributes that the installed classes do not read, and lacks those that they do."""
    model = network(FixedWidth(16))
    del model[3].width
    with pytest.raises(TraceError, match=r"does not run on an input of \(1, 3, 8, 8\): .*no attribute 'width'"):
        trace(model, torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(4, 16, 32), (2, 12, 12), (8, 16, 8), (16, 16, 32)])
def test_grouped_convolutions_are_pruned_and_their_groups_stay_equally_wide(
    groups: int, inputs: int, outputs: int
) -> None:
    """Also twice, down to one channel a group, which is no depthwise convolution."""
    torch.manual_seed(0)
    grouped = nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups)
    model: nn.Module = nn.Sequential(nn.Conv2d(3, inputs, 1), grouped, nn.ReLU(), nn.Conv2d(outputs, 4, 1))
    image = torch.rand(2, 3, 8, 8)
    for ratio in (0.5, 0.9):
        graph = trace(model, torch.zeros(1, 3, 8, 8))
        plan = graph.plan(ratio)
        small = plan.apply(model)
        assert torch.allclose(small(image), plan.mask(model)(image), atol=1e-6)
        assert sum(weight.numel() for weight in small.parameters()) == plan.cost().params <= graph.cost().params
        layer = small.get_submodule("1")
        assert layer.weight.shape == (layer.out_channels, layer.in_channels // layer.groups, 3, 3)
        with FlopCounterMode(display=False) as counter:
            small(image[:1])
        assert counter.get_total_flops() == 2 * plan.cost().macs
        model = small
    assert graph.free and len([group for group in graph.groups if group.frozen]) == 2, "the images and the answer"


def test_a_class_of_another_library_with_a_known_name_is_no_residual_block() -> None:
    class InvertedResidual(nn.Module):
        def __init__(self, use_res_connect: bool) -> None:
            super().__init__()
            self.use_res_connect, self.body = use_res_connect, nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)

    class BasicBlock(InvertedResidual):
        pass

    blocks = [InvertedResidual(True), InvertedResidual(False), BasicBlock(True)]
    assert trace(nn.Sequential(nn.Conv2d(3, 8, 1), *blocks), torch.zeros(1, 3, 8, 8)).blocks == ()
