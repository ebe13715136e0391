"""One group after the other: what costs too much stays whole, what was kept stays kept, the model never changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from pruning import DivergedError, PlanError, trace
from pruning.checkpoints.checkpoint import count_parameters
from pruning.groupwise import Attempt, prune_one_by_one
from pruning.recovery.repair import Origin
from tests.pruning.test_iterative import EXAMPLE, tiny


def attempts(metrics: Iterator[float], **options: object) -> list[Attempt]:
    model = tiny()
    graph = trace(model, EXAMPLE)
    names = [group.name for group in graph.free]
    assert len(names) == 2

    def measure(_: nn.Module) -> float:
        return next(metrics)

    return list(prune_one_by_one(model, graph, names, 0.5, measure, **options))  # type: ignore[arg-type]


def test_a_group_that_costs_too_much_is_left_whole() -> None:
    base, first, second = attempts(iter([0.9, 0.5, 0.88]), max_drop=0.1)
    assert base.group is None and base.accepted and (first.accepted, second.accepted) == (False, True)
    assert first.width == first.before // 2 and second.plan is not None
    assert second.plan.widths[first.group] == first.before, "left whole in the next attempt"
    assert second.plan.widths[second.group] == second.width == second.before // 2


def test_groups_add_up_and_the_figures_are_those_of_the_module() -> None:
    rows = attempts(iter([0.9, 0.1, 0.1]))
    assert all(row.accepted for row in rows)
    assert [row.params for row in rows] == [count_parameters(row.model) for row in rows if row.model is not None]
    assert rows[0].params > rows[1].params > rows[2].params and rows[1].macs > rows[2].macs


def test_the_model_is_not_changed_and_the_repaired_module_is_measured() -> None:
    model = tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[nn.Module] = []

    def repair(small: nn.Module, origin: Origin) -> nn.Module:
        assert origin.base is model
        nn.init.zeros_(next(small.parameters()))
        seen.append(small)
        return small

    graph, measured = trace(model, EXAMPLE), list[nn.Module]()
    list(prune_one_by_one(model, graph, [graph.free[0].name], 0.3, lambda m: measured.append(m) or 1.0, repair=repair))
    assert measured == [model, *seen] and len(seen) == 1
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_nonsense_is_refused() -> None:
    with pytest.raises(PlanError, match="ratio"):
        attempts_with(ratio=1.0)
    with pytest.raises(PlanError, match="max_drop must be at least 0"):
        attempts_with(max_drop=-1.0)
    with pytest.raises(PlanError, match="not a group"):
        attempts_with(groups=["nowhere"])
    with pytest.raises(DivergedError, match="step 0"):
        attempts(iter([float("nan")]))


def attempts_with(ratio: float = 0.5, max_drop: float | None = None, groups: list[str] | None = None) -> None:
    model = tiny()
    graph = trace(model, EXAMPLE)
    list(prune_one_by_one(model, graph, groups or [], ratio, lambda _: 1.0, max_drop=max_drop))
