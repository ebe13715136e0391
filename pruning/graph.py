"""trace(model, example) -> ChannelGraph: follow every channel of a model through one exported graph.

The model is exported once with `torch.export`; channel labels (trace/labels.py) are pushed through the graph by one
small rule per operator (trace/operators.py). Two channels that meet in an addition, a product or a contraction are
*coupled*: the connected components of those meetings are the smallest sets of weight slices that can be removed
together (dependency graph, Fang et al., CVPR 2023, arXiv 2301.12900; found here on elements, so that chunk, split,
view, permute and attention need no case of their own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning.channels import TracedChannels, traced_channels
from pruning.errors import TraceError, first_line
from pruning.importance import Scores
from pruning.plan import Plan, Ranking, make_plan
from pruning.trace.export import without_features

PROBED_RATIO = 0.5
"""Share of every group that is removed in the run after tracing."""
TOLERANCE = 0.01
"""Of the mean absolute output; rounding is below 0.0001 of it."""
MOST_CHOICES = 0.1
"""Entries of an output that may differ: where a network selects, rounding decides between equals."""


@dataclass(frozen=True)
class ChannelGraph(TracedChannels):
    """Coupled channels of a model and what they cost. Plain data; pickles without the model."""

    def plan(
        self,
        ratios: float | Mapping[str, float],
        importance: str | Scores = "l2",
        round_to: int = 1,
        min_width: int = 1,
        ranking: Ranking = "local",
        removed: Sequence[str] = (),
        heads: Mapping[str, int] | None = None,
    ) -> Plan:
        """Choose the channels to keep for a pruning ratio per group, or one ratio for all.

        Args:
            ratios: by the name of a group, a layer or a block (all groups below it), each in [0, 1).
            importance: a data-free criterion, read from the traced model, or scores.
            round_to: widths are rounded up to multiples of this.
            ranking: "global" lets the channels of all groups compete for one ratio.
            removed: blocks (of `self.blocks`) to remove whole.
            heads: number of heads that each attention block (of `self.attention`) keeps.

        Raises PlanError.
        """
        scores = importance if isinstance(importance, Scores) else self._own_scores(importance)
        return make_plan(
            self, ratios, scores, round_to=round_to, min_width=min_width, ranking=ranking, removed=removed, heads=heads
        )

    def _own_scores(self, importance: str) -> Scores:
        if self.model is None:
            raise TraceError("this graph was loaded without its model: pass scores, graph.score(model, 'l2')")
        return self.score(self.model, importance)


def trace(model: nn.Module, example: Tensor) -> ChannelGraph:
    """Export `model` on `example` (shape (1, C, H, W)) and find its coupled channels. The model is not changed.

    The network is run once with half of every group, removed and masked. A group with which a module no longer computes
    the same, such as one that keeps a width in an attribute of its own, is frozen, and the reason names the error.

    Raises TraceError when torch.export cannot follow the model. Operators without a rule
    freeze the channels that they touch and are listed in `ChannelGraph.unsupported`.
    """
    graph = ChannelGraph(**vars(traced_channels(model, example)))
    if _fault(graph, [group.name for group in graph.free], model, example) is None:
        return graph
    return _without_faulty_groups(graph, model, example)


def _without_faulty_groups(graph: ChannelGraph, model: nn.Module, example: Tensor) -> ChannelGraph:
    """Freeze every group that breaks the network, together with the sound ones before it."""
    ties: dict[str, list[str]] = {}
    for group in graph.free:
        ties.setdefault(group.tie or group.name, []).append(group.name)
    sound: list[str] = []
    faults: dict[str, str] = {}
    for names in ties.values():
        fault = _fault(graph, [*sound, *names], model, example)
        if fault is None:
            sound += names
        else:
            faults |= dict.fromkeys(names, f"with fewer of them {fault}")
    groups = tuple(replace(group, frozen=faults.get(group.name, group.frozen)) for group in graph.groups)
    frozen = {graph.table.numbers[name] for name in faults}
    heads = {
        block: heads
        for block, heads in graph.table.heads.items()
        if not any(group in frozen for head in heads for group in head)
    }
    return replace(graph, groups=groups, table=replace(graph.table, heads=heads))


def _fault(graph: ChannelGraph, names: Sequence[str], model: nn.Module, example: Tensor) -> str | None:
    """Return what goes wrong without half of the named groups; None if removing is the same as masking."""
    plan = graph.plan(dict.fromkeys(names, PROBED_RATIO))
    image = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)).to(example)
    expected = _outputs(plan.mask(model), image)
    try:
        found = _outputs(plan.apply(model), image)
    except Exception as error:  # the code of any module may raise anything
        return f"it does not run: {first_line(error)}"
    if [leaf.shape for leaf in found] != [leaf.shape for leaf in expected]:
        return "its outputs have other shapes"
    same = all(_agree(*leaves) for leaves in zip(found, expected, strict=True))
    return None if same else "its outputs are not those of the masked network"


def _outputs(network: nn.Module, image: Tensor) -> list[Tensor]:
    """Run a network in evaluation mode, in place, and return the floating-point tensors of its output.

    End-to-end heads return their candidates: which of two nearly equal ones is chosen is a matter of rounding.
    """
    network.eval()
    for module in network.modules():
        module.training = bool(getattr(module, "end2end", False))
    with torch.no_grad():
        outputs: Any = without_features(network(image))
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Return whether two tensors are the same but for rounding, and for few entries that were chosen otherwise."""
    if not expected.numel():
        return True
    scale = max(float(expected.abs().mean()), 1e-6)
    return float((~((found - expected).abs() <= TOLERANCE * scale)).float().mean()) <= MOST_CHOICES  # NaN differs
