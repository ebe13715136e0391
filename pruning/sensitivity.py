"""How much each part of the network minds being pruned, alone, without labels and without training.

Each part (a stage, a group) is pruned at a few ratios, its batch norms are re-calibrated, and the outputs are compared
with the base's on the same images. Outputs move long before mAP does, and mAP is 0 too early to rank anything. (One
layer at a time: Li et al., ICLR 2017, arXiv 1608.08710; on outputs with re-calibrated statistics: EagleEye, Li et al.,
ECCV 2020, arXiv 2007.02491.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pruning.calibration import recalibrate
from pruning.graph import ChannelGraph
from pruning.importance import Scores

LEVELS = (0.4, 0.8)


@dataclass(frozen=True)
class Curve:
    """Divergence of the outputs against the ratio of one part; starts at (0, 0), never falls (made monotone)."""

    ratios: tuple[float, ...]
    divergences: tuple[float, ...]

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Curve:
        """From measured (ratio, divergence) points."""
        ordered = [(0.0, 0.0), *sorted(points)]
        rising = np.maximum.accumulate([value for _, value in ordered])
        return cls(tuple(ratio for ratio, _ in ordered), tuple(float(value) for value in rising))

    def ratio_within(self, divergence: float) -> float:
        """The largest ratio (interpolated, at most the largest measured) whose divergence is at most `divergence`."""
        above = np.flatnonzero(np.array(self.divergences) > divergence)
        if above.size == 0:
            return self.ratios[-1]
        right = int(above[0])
        rise = self.divergences[right] - self.divergences[right - 1]
        share = (divergence - self.divergences[right - 1]) / rise
        return self.ratios[right - 1] + share * (self.ratios[right] - self.ratios[right - 1])


@torch.no_grad()
def measure_sensitivity(
    model: nn.Module,
    graph: ChannelGraph,
    parts: Mapping[str, Sequence[str]],
    batches: Sequence[Tensor],
    scores: Scores,
    *,
    levels: Sequence[float] = LEVELS,
    round_to: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Curve]:
    """Part -> curve; a part is a list of group names that share a ratio. `batches`: (B, 3, H, W) images, 0 to 1.

    One unit of divergence is an output that has nothing to do with the base's. The base is re-calibrated on the same
    images, so that what the images alone change is not counted.
    """

    def outputs_of(ratios: float | Mapping[str, float]) -> list[dict[str, Tensor]]:
        small = graph.plan(ratios, scores, round_to=round_to).apply(model).eval()
        recalibrate(small, batches)
        return [_outputs(small(batch)) for batch in batches]

    expected = outputs_of(0.0)

    def divergence_of(ratios: Mapping[str, float]) -> float:
        return float(np.mean([divergence(a, b) for a, b in zip(outputs_of(ratios), expected, strict=True)]))

    curves = {}
    for number, (part, groups) in enumerate(parts.items()):
        points = [(level, divergence_of(dict.fromkeys(groups, level))) for level in levels]
        curves[part] = Curve.through(points)
        if on_progress is not None:
            on_progress((number + 1) / len(parts))
    return curves


def divergence(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Mean over outputs of the squared difference relative to the expected output's own square.

    Class scores count by probability; whatever else is predicted at the same places (boxes, masks, keypoints) counts as
    much as the base is confident there.
    """
    parts = []
    for name, target in expected.items():
        weight = _confidence(name, target, expected)
        squared = (weight * (found[name] - target).square()).sum()
        parts.append(float(squared / (weight * target.square()).sum().clamp_min(1e-9)))
    return float(np.mean(parts))


def _confidence(name: str, target: Tensor, expected: Mapping[str, Tensor]) -> Tensor:
    """How much each place of an output counts: the base's best class probability there, or 1 without places."""
    head, dot, last = name.rpartition(".")
    scores = expected.get(f"{head}{dot}scores")
    if last == "scores" or scores is None or target.dim() != 3 or target.shape[-1] != scores.shape[-1]:
        return torch.ones((), device=target.device)
    return scores.amax(1, keepdim=True)


def _outputs(value: Any) -> dict[str, Tensor]:
    """Raw outputs by name; class scores as probabilities. Decoded predictions are left out where raw ones exist."""
    if isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[1], dict):
        value = value[1]
    return {name: leaf.sigmoid() if name.endswith("scores") else leaf for name, leaf in _leaves(value, "")}


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            if key != "feats":
                yield from _leaves(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (tuple, list)):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{name}.{number}" if name else str(number))
