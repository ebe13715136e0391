"""Iterative pruning: prune, fine-tune and measure in steps, until the target ratio or the largest allowed drop.

Removing a share in several steps with training between them keeps more accuracy than removing it at once (Han et al.,
NeurIPS 2015, arXiv 1506.02626, section 3.3; Molchanov et al., ICLR 2017, arXiv 1611.06440, section 2). Scores are
recomputed from the recovered weights before every step.

Symbols: r the target ratio, K steps. After step k a share 1 - (1 - r)^(k / K) of the *base's* channels is gone, so each
step removes the same share of what its predecessor left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np
import torch
from torch import Tensor, nn

from pruning.errors import DivergedError, PlanError
from pruning.graph import ChannelGraph, trace
from pruning.plan import Plan, Ranking, check_ratio
from pruning.recovery.repair import Origin
from pruning.trace.tracer import Slot

Recover = Callable[[nn.Module, Origin], nn.Module]
Measure = Callable[[nn.Module], float]
GroupKey = tuple[tuple[tuple[Slot, int], ...], int]


@dataclass(frozen=True)
class Step:
    """One model of the sequence. Step 0 is the base; `ratio` is relative to it, `metric` is measured after recovery.

    `params` and `macs` (one input) are exact; `plan` applies to the model of the step before. A step that is not
    `accepted` fell further than allowed; it is the last.
    """

    step: int
    ratio: float
    params: int
    macs: int
    metric: float
    model: nn.Module = field(repr=False, compare=False)
    plan: Plan | None = field(default=None, repr=False, compare=False)
    accepted: bool = True


@dataclass(frozen=True)
class PruningSchedule:
    """Target ratio, steps and criterion of iterative pruning. `removed` and `heads` are removed in a first step.

    `max_drop` is the largest allowed fall of the metric below the base's, None for no limit.
    """

    target_ratio: float
    steps: int
    max_drop: float | None = None
    importance: str = "l2"
    ranking: Ranking = "local"
    round_to: int = 1
    removed: tuple[str, ...] = ()
    heads: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ratio("target_ratio", self.target_ratio)
        if self.steps < 1:
            raise PlanError(f"steps must be at least 1, found {self.steps}")
        if self.max_drop is not None and not self.max_drop >= 0:
            raise PlanError(f"max_drop must be at least 0 (a fall of the metric), found {self.max_drop}")

    @property
    def removes_blocks_first(self) -> bool:
        """True if the first step removes blocks or heads."""
        return bool(self.removed or self.heads)

    @property
    def last(self) -> int:
        """Number of the last step."""
        return self.steps + self.removes_blocks_first

    def ratio_of(self, step: int) -> float:
        """Return the cumulative ratio after `step`."""
        number = step - self.removes_blocks_first
        return cumulative_ratio(self.target_ratio, number, self.steps) if number > 0 else 0.0


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
    """Prune `model` to `target_ratio` in `steps` of prune and recover; return the base and every accepted step.

    Every step is traced anew; the given `model` is not changed. With "local" ranking the widths equal those of one plan
    of the same cumulative ratio on the base; the kept channels may differ.

    Args:
        example: input to trace with; by default zeros, (1, C, 640, 640) with the channels of the first convolution.
        recover: takes the pruned model and its origin; may train in place.
        measure: returns the metric, more is better.
        max_drop: a step that falls further than this below the base is left out and ends the run (None: no limit).

    Raises PlanError for an invalid ratio, number of steps or drop, DivergedError for a metric that is not finite, and
    whatever `recover` and `measure` raise.
    """
    schedule = PruningSchedule(target_ratio, steps, max_drop, importance, ranking, round_to)
    if example is None:
        parameter = next(model.parameters())
        channels = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
        example = torch.zeros(1, channels, 640, 640, dtype=parameter.dtype, device=parameter.device)
    return tuple(step for step in steps_of(model, example, schedule, recover, measure) if step.accepted)


def steps_of(
    model: nn.Module,
    example: Tensor,
    schedule: PruningSchedule,
    recover: Recover,
    measure: Measure,
    done: Sequence[Step] = (),
) -> Iterator[Step]:
    """Yield the steps of `schedule` one by one, including a rejected one; see `prune_iteratively`.

    `done`: steps of an earlier run to continue, base first; only the last one needs its model.
    """
    graph = trace(model, example)
    start = graph.plan(0.0, removed=schedule.removed, heads=schedule.heads) if schedule.removes_blocks_first else None
    full = _widths(graph if start is None else trace(start.apply(model), example))
    if done:
        base, last = done[0].metric, done[-1]
    else:
        base = checked_metric(measure, model, 0)
        last = Step(0, 0.0, graph.cost().params, graph.cost().macs, base, model)
        yield last
    for number in range(last.step + 1, schedule.last + 1):
        if number == 1 and start is not None:
            plan = start
        else:
            graph = trace(last.model, example) if number > 1 else graph
            plan = _next_plan(graph, full, schedule, number)
        small = recover(plan.apply(last.model), Origin(plan, last.model))
        metric, cost = checked_metric(measure, small, number), plan.cost()
        accepted = schedule.max_drop is None or base - metric <= schedule.max_drop
        last = Step(number, schedule.ratio_of(number), cost.params, cost.macs, metric, small, plan, accepted)
        yield last
        if not accepted:
            return


def _next_plan(graph: ChannelGraph, full: Mapping[GroupKey, int], schedule: PruningSchedule, number: int) -> Plan:
    ratios = _still_to_remove(graph, full, schedule.ratio_of(number), schedule.ranking)
    return graph.plan(ratios, schedule.importance, schedule.round_to, ranking=schedule.ranking)


def cumulative_ratio(target: float, step: int, steps: int) -> float:
    """Return the share of the base's channels removed after `step` of `steps`: 1 - (1 - target)^(step / steps)."""
    return float(target if step == steps else 1.0 - (1.0 - target) ** (step / steps))


def _still_to_remove(
    graph: ChannelGraph, full: Mapping[GroupKey, int], ratio: float, ranking: Ranking
) -> float | dict[str, float]:
    """Return the ratio to request of the present model so that `ratio` of the base's channels (`full`) is removed."""
    keys, widths = _keys(graph), graph.table.full_widths()
    free = [g for g, group in enumerate(graph.groups) if group.frozen is None]
    if ranking == "global":
        return _share(sum(full[keys[g]] for g in free), int(widths[free].sum()), ratio)
    firsts = [g for g in free if graph.groups[g].tie in (None, graph.groups[g].name)]
    return {graph.groups[g].name: _share(full[keys[g]], int(widths[g]), ratio) for g in firsts}


def _share(base: int, present: int, ratio: float) -> float:
    """Return the share of `present` channels to remove so that 1 - `ratio` of `base` stay; 0 if fewer are left."""
    return max(0.0, 1.0 - (1.0 - ratio) * base / present)


def _widths(graph: ChannelGraph) -> dict[GroupKey, int]:
    return dict(zip(_keys(graph), graph.table.full_widths().tolist(), strict=True))


def _keys(graph: ChannelGraph) -> list[GroupKey]:
    """Return keys that identify each group in the base and every pruned model: the dimensions it touches, with counts.

    A group's own name may hold a range of channels, which changes with pruning. Groups that touch the same dimensions
    (the heads of an attention block) keep their order.
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


def checked_metric(measure: Measure, model: nn.Module, step: int) -> float:
    """Return `measure(model)`. Raises DivergedError unless it is finite."""
    metric = float(measure(model))
    if not isfinite(metric):
        raise DivergedError(f"step {step}: the metric is {metric}; expected a finite figure, more is better")
    return metric
