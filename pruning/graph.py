"""trace(model, example) -> ChannelGraph: follow every channel of a model through one exported graph.

The model is exported once with `torch.export`; channel labels (trace/labels.py) are pushed through the graph by one
small rule per operator (trace/operators.py). Two channels that meet in an addition, a product or a contraction are
*coupled*: the connected components of those meetings are the smallest sets of weight slices that can be removed
together (dependency graph, Fang et al., CVPR 2023, arXiv 2301.12900; found here on elements, so that chunk, split,
view, permute and attention need no case of their own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from pruning.channels import TracedChannels, traced_channels
from pruning.errors import TraceError
from pruning.importance import Scores
from pruning.plan import Plan, Ranking, make_plan


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

    Raises TraceError when torch.export cannot follow the model. Operators without a rule freeze the channels that they
    touch and are listed in `ChannelGraph.unsupported`.
    """
    return ChannelGraph(**vars(traced_channels(model, example)))
