"""trace: a module that breaks with fewer channels is found before anybody is handed a network that does not run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

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
