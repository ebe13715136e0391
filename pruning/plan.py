"""Pruning plans: the kept channel indices of every group, as plain data, computed from ratios.

    w = min(n, max(minimum, ceil(ceil((1 - r) n) / step) step))

for a tie of n removable widths; both roundings go up and grow with (1 - r), so a larger ratio never keeps more.
Within a group the channels with the highest scores stay (ties of the score: the lower index), so the channels kept at
a larger ratio are a subset of those kept at a smaller one.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil, gcd
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pruning.channels import TracedChannels, traced_channels
from pruning.cost import Cost
from pruning.errors import PlanError
from pruning.importance import Scores
from pruning.structure.block_removal import check_blocks
from pruning.structure.fingerprint import check_fingerprint
from pruning.structure.level_removal import check_levels
from pruning.surgery import apply, mask
from pruning.trace.groups import GroupTable, Ints

FORMAT = 1
MAX_GLOBAL_SHARE = 0.9

Flags = npt.NDArray[np.bool_]
Ranking = Literal["local", "global"]
"""local: each group loses its own ratio; global: all channels compete, one ratio for the model."""


@dataclass(frozen=True)
class Plan:
    """Kept channels of every group ((group, (index, ...)), ...), and blocks and levels removed whole. JSON both ways.

    `graph` is the trace that the plan was made on. A plan read from JSON has none and traces the model it is given.
    """

    kept: tuple[tuple[str, tuple[int, ...]], ...]
    fingerprint: str
    example_shape: tuple[int, ...]
    removed: tuple[str, ...] = ()
    graph: TracedChannels | None = field(default=None, compare=False, repr=False)
    keep: Flags | None = field(default=None, compare=False, repr=False)
    """(units,) True where a unit of the graph is kept: `kept` in the form that surgery reads."""

    @property
    def widths(self) -> dict[str, int]:
        """Channels kept per group."""
        return {name: len(indices) for name, indices in self.kept}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of kept channels and removed parts: equal digests mean equal models."""
        return hashlib.sha256(json.dumps([self.fingerprint, self.kept, self.removed]).encode()).hexdigest()

    def bind(self, model: nn.Module) -> Plan:
        """Return the plan with its graph, traced on `model` if it has none. Raises PlanError for another model."""
        graph = self.graph_on(model)
        return self if graph is self.graph else replace(self, graph=graph)

    def graph_on(self, model: nn.Module) -> TracedChannels:
        """Return the graph, traced on `model` if the plan has none. Raises PlanError for another model."""
        check_fingerprint(model, self.fingerprint)
        if self.graph is not None:
            return self.graph
        parameter = next(model.parameters())
        example = torch.zeros(self.example_shape, dtype=parameter.dtype, device=parameter.device)
        graph = traced_channels(model, example)
        if graph.table.names != tuple(name for name, _ in self.kept):
            raise PlanError(
                "this plan names other groups than are found in the model: it was made by another version of "
                "paretoprune. Prune again with the ratio, or use the version that made it."
            )
        return graph

    def apply(self, model: nn.Module) -> nn.Module:
        """Return a smaller module of the same classes; `model` is not changed. Raises PlanError for another model."""
        graph = self.graph or self.graph_on(model)
        return apply(graph, self.unit_mask(graph.table), self.removed, model)

    def mask(self, model: nn.Module) -> nn.Module:
        """Return a full-size copy whose removed channels are zero; it computes the same as `apply`."""
        graph = self.graph_on(model)
        return mask(graph, self.unit_mask(graph.table), self.removed, model)

    def cost(self) -> Cost:
        """Return exact parameters and MACs without building the model. Raises PlanError when the plan has no graph."""
        if self.graph is None:
            raise PlanError("this plan was read from JSON: bind it first, plan.bind(model).cost()")
        costs = self.graph.costs_without(self.removed)
        return costs.of_widths(np.array(list(self.widths.values())))

    def unit_mask(self, table: GroupTable) -> Flags:
        """Return (units,), True where a unit is kept."""
        if self.keep is not None:
            return self.keep
        keep = np.zeros(int(table.starts[-1]), dtype=bool)
        for start, (_, indices) in zip(table.starts[:-1], self.kept, strict=True):
            keep[start + np.array(indices, dtype=np.int64)] = True
        return keep

    def to_json(self) -> str:
        """Serialise to one line of JSON; kept channels as [first, last] runs."""
        document = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "example_shape": list(self.example_shape),
            "removed": list(self.removed),
            "kept": {name: _runs(indices) for name, indices in self.kept},
        }
        return json.dumps(document)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Parse the output of `to_json`. Raises PlanError for anything else."""
        try:
            document: dict[str, Any] = json.loads(text)
            kept = tuple((str(name), _indices(runs)) for name, runs in document["kept"].items())
            shape = tuple(map(int, document["example_shape"]))
            return cls(kept, str(document["fingerprint"]), shape, tuple(map(str, document["removed"])))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"not a plan: {type(error).__name__}: {error}") from error


def _runs(indices: tuple[int, ...]) -> list[list[int]]:
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return runs


def _indices(runs: list[list[int]]) -> tuple[int, ...]:
    return tuple(index for first, last in runs for index in range(int(first), int(last) + 1))


def make_plan(
    graph: TracedChannels,
    ratios: float | Mapping[str, float],
    scores: Scores,
    *,
    round_to: int,
    min_width: int,
    ranking: Ranking = "local",
    removed: Sequence[str] = (),
    heads: Mapping[str, int] | None = None,
) -> Plan:
    """Round ratios to widths and keep the channels with the highest scores in each group.

    Args:
        ratios: requested share to remove, in [0, 1), by group, layer or block name, or one for all.
        round_to: a tie's widest group is rounded up to a multiple of this.
        min_width: channels that every group keeps at least.
        ranking: "global" lets the channels of all groups compete for one ratio.
        removed: paths of blocks and names of detection levels to remove whole. Groups that go with a level count as
            kept whole: equal networks have equal plans.
        heads: attention block -> number of heads to keep.

    Raises PlanError.
    """
    check_levels(graph.pyramid, removed)
    check_blocks(removed, [*(block.path for block in graph.blocks), *(level.path for level in graph.levels)])
    if round_to < 1 or min_width < 1:
        raise PlanError(f"round_to and min_width must be at least 1, found {round_to} and {min_width}")
    if ranking == "global":
        if isinstance(ratios, Mapping):
            raise PlanError("a global ranking takes one ratio for the whole model, not one for each group")
        per_tie = globally_ranked_ratios(graph, ratios, scores)
    else:
        per_tie = ratios_of_ties(graph, ratios)
    widths = realised_widths(graph, per_tie, round_to, min_width)
    if heads:
        remove_heads(graph, widths, scores, heads)
    gone = graph.groups_gone_with_levels(removed)
    widths[gone] = graph.table.full_widths()[gone]
    keep = np.concatenate([scores.ranks[name] for name in graph.table.names]) < np.repeat(
        widths, graph.table.full_widths()
    )
    kept = _kept_by_group(graph.table, keep, widths)
    return Plan(kept, graph.fingerprint, graph.example_shape, tuple(sorted(removed)), graph, keep)


def _kept_by_group(table: GroupTable, keep: Flags, widths: Ints) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return the indices of kept units, counted within each group."""
    places = table.places[keep].tolist()
    ends = np.cumsum(widths).tolist()
    begins = [0, *ends[:-1]]
    return tuple((name, tuple(places[a:b])) for name, a, b in zip(table.names, begins, ends, strict=True))


def ratios_of_ties(graph: TracedChannels, ratios: float | Mapping[str, float]) -> dict[int, float]:
    """Map tie number -> requested ratio. Raises PlanError where names give one tie two different ratios."""
    ties = graph.table.tie_list
    if not isinstance(ratios, Mapping):
        check_ratio("ratio", ratios)
        return dict.fromkeys(ties, float(ratios))
    chosen: dict[int, tuple[str, float]] = {}
    for name, ratio in ratios.items():
        check_ratio(name, ratio)
        for g in members(graph, name):
            other, earlier = chosen.setdefault(ties[g], (name, float(ratio)))
            if earlier != float(ratio):
                raise PlanError(
                    f"{name}: {ratio} but {other}: {earlier}; these channels are tied (they keep equal shares), "
                    f"so give one ratio for both"
                )
    return {tie: ratio for tie, (_, ratio) in chosen.items()}


def globally_ranked_ratios(graph: TracedChannels, ratio: float, scores: Scores) -> dict[int, float]:
    """Map tie number -> ratio when the channels of all groups compete and the worst `ratio` of all channels is removed.

    Scores of a group are divided by their mean first, since layers differ in scale (DepGraph, arXiv 2301.12900, section
    3.3). One width of a tie removes the worst channel of each member, so it is ranked by their mean score. No tie loses
    more than MAX_GLOBAL_SHARE of its widths, so that no criterion disconnects the network.
    """
    check_ratio("ratio", ratio)
    full, steps = graph.table.full_widths(), graph.table.steps
    prices, owners, weights = [], [], []
    for tie in np.unique(graph.table.ties):
        inside = np.flatnonzero(graph.table.ties == tie)
        if graph.groups[inside[0]].frozen is None:
            price = np.mean([_worst_first(scores[graph.groups[g].name], int(steps[g])) for g in inside], axis=0)
            losable = int(len(price) * MAX_GLOBAL_SHARE)
            prices.append(price[:losable])
            owners.append(np.full(losable, tie))
            weights.append(np.full(losable, steps[inside].sum()))
    owner, weight = np.concatenate(owners), np.concatenate(weights)
    order = np.argsort(np.concatenate(prices), kind="stable")
    total = sum(int(full[g]) for g, group in enumerate(graph.groups) if group.frozen is None)
    gone = owner[order][np.cumsum(weight[order]) <= ratio * total + 1e-9]
    lost = dict(zip(*np.unique(gone, return_counts=True), strict=True))
    return {int(tie): int(lost.get(tie, 0)) / _tie_size(graph, tie) for tie in np.unique(owner)}


def _worst_first(group_scores: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float64]:
    """Return the relative score of each successive removal of `step` channels: ascending, one per width of the tie."""
    ascending = np.sort(group_scores) / max(float(group_scores.mean()), 1e-12)
    return np.asarray(ascending.reshape(-1, step).mean(axis=1), dtype=np.float64)


def _tie_size(graph: TracedChannels, tie: int) -> int:
    first = int(np.flatnonzero(graph.table.ties == tie)[0])
    return int(graph.table.full_widths()[first] // graph.table.steps[first])


def check_ratio(name: str, ratio: float) -> None:
    """Raise PlanError unless 0 <= ratio < 1."""
    if not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise PlanError(f"{name}: the ratio must be at least 0 and below 1, found {ratio!r}")


def members(graph: TracedChannels, name: str) -> list[int]:
    """Return the groups that a name selects: a group, a layer, or all below a prefix. Raises PlanError."""
    exact = graph.table.numbers.get(name)
    below = (f"{name}.", f"{name}[")
    found = [g for g, group in enumerate(graph.groups) if group.name.startswith(below)] if exact is None else [exact]
    if not found:
        near = difflib.get_close_matches(name, [group.name for group in graph.groups], n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise PlanError(f"{name!r} is not a group of this model{hint}")
    free = [g for g in found if graph.groups[g].frozen is None]
    if not free:
        raise PlanError(f"{name!r} cannot be pruned: {graph.groups[found[0]].frozen}")
    return free


def realised_widths(graph: TracedChannels, per_tie: Mapping[int, float], round_to: int, min_width: int) -> Ints:
    """Return the channels kept per group (G,) after rounding, ties and minimums."""
    table = graph.table
    widths = table.full_widths().tolist()
    for tie, ratio in per_tie.items():
        members, n, widest, channels = table.tied[tie]
        if graph.groups[members[0]].frozen is None:
            step = round_to // gcd(round_to, channels)  # makes the widest member a multiple of `round_to` channels
            width = realised_width(n, ratio, step, min(n, ceil(min_width / widest)))
            for group in members:
                widths[group] = table.step_list[group] * width
    return np.array(widths, dtype=np.int64)


def remove_heads(graph: TracedChannels, widths: Ints, scores: Scores, heads: Mapping[str, int]) -> None:
    """Keep the `heads[block]` best heads of attention blocks, in place in `widths` (G,).

    The stream that an attention block adds to has as many channels as its heads have values, so it shrinks with them,
    and so does every block on the same stream, which must keep as many heads. Raises PlanError.
    """
    table = graph.table
    for block, count in heads.items():
        if block not in table.heads:
            known = ", ".join(table.heads) or "none"
            raise PlanError(f"{block!r} is not an attention block with heads that can be removed; those are {known}")
        if not 0 < count <= len(table.heads[block]):
            raise PlanError(f"{block}: has {len(table.heads[block])} heads, asked to keep {count}")
    for block, count in heads.items():
        ties = {int(table.ties[group]) for head in table.heads[block] for group in head}
        for other, members in table.heads.items():
            if ties & {int(table.ties[g]) for head in members for g in head} and heads.get(other) != count:
                raise PlanError(f"{block} and {other} add to one stream: keep the same number of heads in both")
    narrowed: set[int] = set()
    for block, count in heads.items():
        members = table.heads[block]
        inside = {group for head in members for group in head}
        worth = [sum(float(scores[graph.groups[g].name].sum()) for g in head) for head in members]
        for head in np.argsort(-np.array(worth), kind="stable")[count:]:
            widths[list(members[head])] = 0
        for tie in {int(table.ties[group]) for group in inside}:
            stream = [
                g for g in np.flatnonzero(table.ties == tie) if not _in_heads(table, int(g)) and g not in narrowed
            ]
            widths[stream] = widths[stream] * count // len(members)
            narrowed.update(int(g) for g in stream)


def _in_heads(table: GroupTable, group: int) -> bool:
    return any(group in head for members in table.heads.values() for head in members)


def realised_width(n: int, ratio: float, step: int, minimum: int) -> int:
    """Return w of the module's docstring for `n` widths and a requested `ratio`."""
    wanted = ceil((1 - ratio) * n - 1e-9)
    return min(n, max(minimum, ceil(wanted / step) * step))
