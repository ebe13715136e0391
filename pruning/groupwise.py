"""One group after the other: prune it, look, keep it or leave it. What careful hands do, without a backup to restore.

The given model never changes. Every attempt is one plan on it: the groups that were kept so far, and the next one. So a
group that costs too much is left out of the next plan, and there is nothing to put back.
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


def as_it_is(model: nn.Module, origin: Origin) -> nn.Module:
    """No repair."""
    return model


@dataclass(frozen=True)
class Attempt:
    """One group pruned on top of those that were kept before; the first attempt is the model itself, group None.

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
    repair: Repair = as_it_is,
    importance: str = "l2",
    round_to: int = 1,
) -> Iterator[Attempt]:
    """Prune each of `groups` of `model` by `ratio`, in order; yields the model itself, then an attempt for each group.

    A group after which `measure` (more is better) is more than `max_drop` below the unpruned model's is not accepted
    and stays whole (None: no limit). `repair` is given every pruned module and where it comes from, for example to
    correct its batch norms; it may change it in place. `graph` is the trace of `model`.

    Raises PlanError for a ratio, a drop or a group that makes no sense, DivergedError for a metric that is not finite.
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
