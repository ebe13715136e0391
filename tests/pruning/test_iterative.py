"""Iterative pruning: small steps to the same widths, stopping one step before the metric falls too far."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import pruning
from pruning import DivergedError, PlanError
from pruning.checkpoints.checkpoint import count_parameters
from pruning.iterative import Step, cumulative_ratio, prune_iteratively
from pruning.recovery.repair import Origin
from tests.pruning import zoo


class Tiny(nn.Module):
    """Three convolutions, the last two joined by an addition, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.branch, self.join = nn.Conv2d(24, 16, 1), nn.Conv2d(16, 24, 1)
        self.out = nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 4)."""
        y = self.norm(self.stem(x)).relu()
        return self.out((y + self.join(self.branch(y).relu())).mean(dim=(2, 3)))  # type: ignore[no-any-return]


EXAMPLE = torch.zeros(1, 3, 8, 8)


def tiny() -> nn.Module:
    torch.manual_seed(0)
    return zoo.seeded(Tiny())


def fewer_is_worse(model: nn.Module) -> float:
    return count_parameters(model) / count_parameters(tiny())


def kept_as_it_is(model: nn.Module, origin: Origin) -> nn.Module:
    return model


def run(model: nn.Module, **options: object) -> tuple[Step, ...]:
    settings = {"target_ratio": 0.5, "steps": 4, "recover": kept_as_it_is, "measure": fewer_is_worse} | options
    return prune_iteratively(model, EXAMPLE, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_ratio_grows_to_the_target_and_each_step_takes_the_same_share(steps: int) -> None:
    ratios = [cumulative_ratio(0.6, step, steps) for step in range(steps + 1)]
    assert ratios[0] == 0 and ratios[-1] == 0.6
    shares = [(1 - after) / (1 - before) for before, after in itertools.pairwise(ratios)]
    assert shares == pytest.approx([shares[0]] * steps)


def test_the_records_are_what_was_built() -> None:
    model = tiny()
    before = count_parameters(model)
    found = run(model)
    assert [step.step for step in found] == [0, 1, 2, 3, 4]
    assert found[0].model is model and count_parameters(model) == before
    assert [step.ratio for step in found] == sorted({step.ratio for step in found})
    for step in found:
        assert step.params == count_parameters(step.model)
        assert step.metric == fewer_is_worse(step.model)
        assert step.model(torch.rand(2, 3, 8, 8)).shape == (2, 4)
    assert all(later.macs < earlier.macs for earlier, later in itertools.pairwise(found))


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo11n.yaml", "yolo12n.yaml", "yolov10n.yaml"])
def test_the_widths_are_those_of_one_plan(name: str) -> None:
    """Rounding does not add up over the steps, and tied groups, chunks and attention heads are found again."""
    model = zoo.build(name)
    found = prune_iteratively(
        model, zoo.picture(), target_ratio=0.4, steps=2, recover=kept_as_it_is, measure=lambda _: 0.0, round_to=4
    )
    expected = zoo.traced(name).plan(0.4, round_to=4).cost()
    assert (found[-1].params, found[-1].macs) == (expected.params, expected.macs)


def test_a_global_ranking_reaches_the_target() -> None:
    channels = 24 + 16
    last = run(tiny(), ranking="global")[-1]
    assert last.plan is not None
    kept = sum(group.size for group in pruning.trace(last.model, EXAMPLE).free)
    assert 0.5 * channels <= kept <= 0.5 * channels + 4


def test_it_stops_one_step_before_the_drop() -> None:
    everything = run(tiny())
    drop = everything[0].metric - everything[2].metric
    assert [step.step for step in run(tiny(), max_drop=drop + 1e-9)] == [0, 1, 2]
    assert [step.step for step in run(tiny(), max_drop=0.0)] == [0]
    assert run(tiny(), max_drop=1.0) == everything


def test_recovery_runs_after_every_cut_and_its_weights_are_kept() -> None:
    seen: list[int] = []

    def trained(model: nn.Module, origin: Origin) -> nn.Module:
        seen.append(count_parameters(model))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(0.5)
        return model

    norms: list[float] = []
    found = run(
        tiny(), recover=trained, measure=lambda m: norms.append(float(next(m.parameters()).detach().norm())) or 1.0
    )
    assert seen == [step.params for step in found[1:]]
    assert all(later < 0.6 * earlier for earlier, later in itertools.pairwise(norms))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"target_ratio": 1.0}, "below 1"), ({"steps": 0}, "at least 1"), ({"max_drop": -0.1}, "max_drop")],
)
def test_nonsense_is_refused_before_anything_runs(options: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        run(tiny(), measure=lambda _: pytest.fail("it ran"), **options)


def test_a_metric_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(DivergedError, match="step 0"):
        run(tiny(), measure=lambda _: float("nan"))
