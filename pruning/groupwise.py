"""Groupwise pruning: prune one group after the other and keep each cut only if the metric drops little.

The given model is never changed. Every attempt is one plan on it: the accepted groups plus the next one. A rejected
group is simply left out of the next plan, so nothing has to be restored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn

from pruning.errors import PlanError
from pruning.graph import ChannelGraph
from pruning.iterative import Measure, checked_metric
from pruning.plan import Plan, check_ratio
from pruning.recovery.repair import Origin

Repair = Callable[[nn.Module, Origin], nn.Module]


def no_repair(model: nn.Module, origin: Origin) -> nn.Module:
    """Return `model` unrepaired."""
    return model


@dataclass(frozen=True)
class Attempt:
    """One group pruned in addition to the accepted ones; the first attempt is the unpruned model, with group None.

    `before` and `width` are channels of the group; `params` and `macs` (one input) are exact and of the whole attempt.
    """

    group: str | None
    before: int
    width: int
    params: int
    macs: int
    metric: float
    accepted: bool = True
    plan: Plan | None = field(default=None, repr=False, compare=False)
    model: nn.Module | None = field(default=None, repr=False, compare=False)


def prune_one_by_one(
    model: nn.Module,
    graph: ChannelGraph,
    groups: Sequence[str],
    ratio: float,
    measure: Measure,
    *,
    max_drop: float | None = None,
    repair: Repair = no_repair,
    importance: str = "l2",
    round_to: int = 1,
) -> Iterator[Attempt]:
    """Prune each of `groups` of `model` by `ratio`, in order; yield the unpruned model, then one attempt per group.

    Args:
        graph: the trace of `model`.
        measure: returns the metric, more is better.
        max_drop: a group is rejected if the metric falls further than this below the unpruned model's (None: no limit).
        repair: takes every pruned module and its origin, e.g. to correct batch norms; may change it in place.

    Raises PlanError for an invalid ratio, drop or group, DivergedError for a metric that is not finite.
    """
    check_ratio("ratio", ratio)
    if max_drop is not None and not max_drop >= 0:
        raise PlanError(f"max_drop must be at least 0 (a fall of the metric), found {max_drop}")
    sizes = {group.name: group.size for group in graph.groups}
    cost = graph.cost()
    base = Attempt(None, 0, 0, cost.params, cost.macs, checked_metric(measure, model, 0), model=model)
    yield base
    kept: dict[str, float] = {}
    for number, name in enumerate(groups, 1):
        plan = graph.plan({**kept, name: ratio}, importance, round_to)
        small = repair(plan.apply(model), Origin(plan, model))
        metric, cost = checked_metric(measure, small, number), plan.cost()
        accepted = max_drop is None or base.metric - metric <= max_drop
        if accepted:
            kept[name] = ratio
        yield Attempt(name, sizes[name], plan.widths[name], cost.params, cost.macs, metric, accepted, plan, small)
