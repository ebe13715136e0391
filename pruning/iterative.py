"""Iterative pruning: a little, recover, measure, again, until the target or a given drop of the metric.

Removing a share in several steps with training between them keeps more accuracy than removing it at once (Han et al.,
NeurIPS 2015, arXiv 1506.02626, section 3.3; Molchanov et al., ICLR 2017, arXiv 1611.06440, section 2). Scores are read
anew from the recovered weights before every step.

Symbols: r the target ratio, K steps. After step k a share 1 - (1 - r)^(k / K) of the *base's* channels is gone, so each
step removes the same share of what its predecessor left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import torch
from torch import Tensor, nn

from pruning.errors import DivergedError, PlanError
from pruning.graph import ChannelGraph, trace
from pruning.groups import Slot
from pruning.plan import Plan, Ranking, check_ratio

Recover = Callable[[nn.Module], nn.Module]
Measure = Callable[[nn.Module], float]
GroupKey = tuple[tuple[tuple[Slot, int], ...], int]


@dataclass(frozen=True)
class Step:
    """One model on the way. Step 0 is the base; `ratio` is asked of the base's channels, `metric` is after recovery.

    `params` and `macs` (one input) are exact; `plan` is what was removed from the model of the step before.
    """

    step: int
    ratio: float
    params: int
    macs: int
    metric: float
    model: nn.Module = field(repr=False, compare=False)
    plan: Plan | None = field(default=None, repr=False, compare=False)


def prune_iteratively(
    model: nn.Module,
    example: Tensor | None = None,
    *,
    target_ratio: float,
    steps: int,
    recover: Recover,
    measure: Measure,
    max_drop: float | None = None,
    importance: str = "l2",
    ranking: Ranking = "local",
    round_to: int = 1,
) -> tuple[Step, ...]:
    """Prune `model` to `target_ratio` in `steps` of prune and recover; the base and every step that was accepted.

    `example` is what the model is traced on, (1, 3, 640, 640) zeros by default. `measure` returns a figure of which
    more is better; a step that falls more than `max_drop` below the base's is left out and ends the run (None: no
    limit). `recover` may train in place; the given `model` is not changed. Every step is traced anew. With "local"
    ranking every width is what one plan of the same cumulative ratio on the base keeps; which channels stay differs.

    Raises PlanError for a ratio, a number of steps or a drop that makes no sense, DivergedError for a metric that is
    not finite, and what `recover` and `measure` raise.
    """
    _check(target_ratio, steps, max_drop)
    if example is None:
        parameter = next(model.parameters())
        example = torch.zeros(1, 3, 640, 640, dtype=parameter.dtype, device=parameter.device)
    graph = trace(model, example)
    base, full = graph.cost(), _widths(graph)
    taken = [Step(0, 0.0, base.params, base.macs, _measured(measure, model, 0), model)]
    for number in range(1, steps + 1):
        before = taken[-1].model
        graph = trace(before, example) if number > 1 else graph
        ratio = cumulative_ratio(target_ratio, number, steps)
        plan = graph.plan(_still_to_remove(graph, full, ratio, ranking), importance, round_to, ranking=ranking)
        small = recover(plan.apply(before))
        metric = _measured(measure, small, number)
        if max_drop is not None and taken[0].metric - metric > max_drop:
            break
        taken.append(Step(number, ratio, plan.cost().params, plan.cost().macs, metric, small, plan))
    return tuple(taken)


def cumulative_ratio(target: float, step: int, steps: int) -> float:
    """Share of the base's channels that is gone after `step` of `steps`: 1 - (1 - target)^(step / steps)."""
    return float(target if step == steps else 1.0 - (1.0 - target) ** (step / steps))


def _still_to_remove(
    graph: ChannelGraph, full: Mapping[GroupKey, int], ratio: float, ranking: Ranking
) -> float | dict[str, float]:
    """What to ask of the present model so that `ratio` of the base's channels (`full`) is gone."""
    keys, widths = _keys(graph), graph.table.full_widths()
    free = [g for g, group in enumerate(graph.groups) if group.frozen is None]
    if ranking == "global":
        return _share(sum(full[keys[g]] for g in free), int(widths[free].sum()), ratio)
    firsts = [g for g in free if graph.groups[g].tie in (None, graph.groups[g].name)]
    return {graph.groups[g].name: _share(full[keys[g]], int(widths[g]), ratio) for g in firsts}


def _share(base: int, present: int, ratio: float) -> float:
    """Share of `present` channels to remove so that 1 - `ratio` of the `base` stay; 0 when fewer are there already."""
    return max(0.0, 1.0 - (1.0 - ratio) * base / present)


def _widths(graph: ChannelGraph) -> dict[GroupKey, int]:
    return dict(zip(_keys(graph), graph.table.full_widths().tolist(), strict=True))


def _keys(graph: ChannelGraph) -> list[GroupKey]:
    """What names each group in the base and in every pruned model: the dimensions that it touches, and how often.

    A group's own name may hold a range of channels, which changes when channels go. Groups that touch the same
    dimensions (the heads of an attention block) keep their order.
    """
    table = graph.table
    group_of_unit = np.repeat(np.arange(len(table.names)), np.diff(table.starts))
    touched: list[list[tuple[Slot, int]]] = [[] for _ in table.names]
    for slot, units in table.slots.items():
        groups, times = np.unique(group_of_unit[units], return_counts=True)
        for group, count in zip(groups.tolist(), (times // np.diff(table.starts)[groups]).tolist(), strict=True):
            touched[group].append((slot, count))
    seen: Counter[tuple[tuple[Slot, int], ...]] = Counter()
    keys = []
    for places in map(tuple, touched):
        keys.append((places, seen[places]))
        seen[places] += 1
    return keys


def _measured(measure: Measure, model: nn.Module, step: int) -> float:
    metric = float(measure(model))
    if not isfinite(metric):
        raise DivergedError(f"step {step}: the metric is {metric}; expected a finite figure, more is better")
    return metric


def _check(target_ratio: float, steps: int, max_drop: float | None) -> None:
    check_ratio("target_ratio", target_ratio)
    if steps < 1:
        raise PlanError(f"steps must be at least 1, found {steps}")
    if max_drop is not None and not max_drop >= 0:
        raise PlanError(f"max_drop must be at least 0 (a fall of the metric), found {max_drop}")
