"""Importance scores per channel: those with the lowest score are removed first.

A unit (trace/groups.py) touches slices of several layers; its score joins the slices of the layers that *produce* it,
as the group criterion of DepGraph does (Fang et al., arXiv 2301.12900, section 3.3). Data-free criteria:

l1, l2    norm of the filter (Li et al., ICLR 2017, arXiv 1608.08710), over all filters of the unit
bn_gamma  absolute scale of the batch norm (Liu et al., network slimming, ICCV 2017, arXiv 1708.06519)
fpgm      distance to the geometric median of its layer's filters (He et al., CVPR 2019, arXiv 1811.00250)
lamp      squared norm over the sum of squared norms not smaller (Lee et al., ICLR 2021, arXiv 2010.07611)
random    seeded uniform numbers, the baseline
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pruning.errors import PlanError
from pruning.trace.groups import GroupTable, Ints

Floats = npt.NDArray[np.float64]
DATA_CRITERIA = ("taylor", "fisher", "activation")
"""Criteria that need batches (data_importance.py)."""

LayerScore = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of every group's units, in the order of the units: `scores['model.0'].shape == (16,)`."""

    criterion: str
    by_group: Mapping[str, Floats]

    def __getitem__(self, group: str) -> Floats:
        return self.by_group[group]

    @cached_property
    def best_first(self) -> Mapping[str, Ints]:
        """Units of each group by descending score (ties: the lower index first)."""
        return {name: np.argsort(-found, kind="stable") for name, found in self.by_group.items()}

    @cached_property
    def ranks(self) -> Mapping[str, Ints]:
        """Rank of each unit in its group: 0 has the highest score. The inverse of `best_first`."""
        return {name: np.argsort(order, kind="stable") for name, order in self.best_first.items()}


def score(table: GroupTable, model: nn.Module, criterion: str) -> Scores:
    """Compute the scores of a data-free criterion. Raises PlanError for an unknown name."""
    if criterion not in CRITERIA:
        if criterion in DATA_CRITERIA:
            raise PlanError(f"importance: {criterion!r} is measured on data: give scores of pruning.data_importance")
        known = (*CRITERIA, *DATA_CRITERIA)
        near = difflib.get_close_matches(criterion, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise PlanError(f"importance: {criterion!r} is not one of {', '.join(known)}{hint}")
    return as_scores(table, criterion, CRITERIA[criterion](table, dict(model.named_parameters())))


def as_scores(table: GroupTable, criterion: str, per_unit: Floats) -> Scores:
    """Convert one number per unit to `Scores`.

    Raises PlanError for a criterion that ranks nothing, such as batch-norm scales of a network whose norms are fused.
    """
    bounds = table.starts
    if not np.isfinite(per_unit).all():
        raise PlanError(f"importance: {criterion!r} is not finite for some channel of this model; try l2")
    parts = np.split(per_unit, bounds[1:-1])
    if all(part.size == 0 or part.min() == part.max() for part in parts):
        raise PlanError(
            f"importance: {criterion!r} is the same for all channels of every group of this model, so it would prune "
            f"at random (bn_gamma needs batch norms, which a fused checkpoint has not); try l2"
        )
    return Scores(criterion, {name: per_unit[bounds[g] : bounds[g + 1]] for g, name in enumerate(table.names)})


def produced(table: GroupTable, parameters: Mapping[str, Tensor]) -> Iterator[tuple[Ints, Tensor]]:
    """Yield (unit of each filter, filters as rows) of every convolution and linear layer."""
    for name, dim in table.outputs:
        weight = parameters.get(name)
        if weight is not None:
            yield table.slots[name, dim], weight.detach().float().transpose(0, dim).flatten(1)


def _accumulate(table: GroupTable, parameters: Mapping[str, Tensor], layer_score: LayerScore) -> Floats:
    """Sum a per-filter score over all filters of each unit."""
    total = np.zeros(int(table.starts[-1]))
    for units, filters in produced(table, parameters):
        np.add.at(total, units, layer_score(filters).double().cpu().numpy())
    return total


def _lamp(filters: Tensor) -> Tensor:
    squared = filters.square().sum(1)
    order = torch.argsort(squared)
    ascending = squared[order]
    remaining = ascending.flip(0).cumsum(0).flip(0)
    result = torch.empty_like(squared)
    result[order] = ascending / remaining.clamp_min(1e-12)
    return result


def _bn_gamma(table: GroupTable, parameters: Mapping[str, Tensor]) -> Floats:
    total = np.zeros(int(table.starts[-1]))
    for (name, dim), units in table.slots.items():
        scale = parameters.get(name)
        if dim == 0 and scale is not None and scale.dim() == 1 and name.endswith("weight"):
            np.add.at(total, units, scale.detach().abs().double().cpu().numpy())
    return total


def _random(table: GroupTable, parameters: Mapping[str, Tensor]) -> Floats:
    return np.random.default_rng(0).random(int(table.starts[-1]))


CRITERIA: dict[str, Callable[[GroupTable, Mapping[str, Tensor]], Floats]] = {
    "l1": lambda table, parameters: _accumulate(table, parameters, lambda f: f.abs().sum(1)),
    "l2": lambda table, parameters: np.sqrt(_accumulate(table, parameters, lambda f: f.square().sum(1))),
    "bn_gamma": _bn_gamma,
    "fpgm": lambda table, parameters: _accumulate(table, parameters, lambda f: torch.cdist(f, f).sum(1)),
    "lamp": lambda table, parameters: _accumulate(table, parameters, _lamp),
    "random": _random,
}
