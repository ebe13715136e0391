"""Pruning sensitivity of each part of the network, without labels and without training.

Each part (a stage, a group) is pruned alone at a few ratios, its batch norms are corrected, and the outputs are
compared with the base's on the same images. Outputs move long before mAP does, and mAP is 0 too early to rank anything.
(One layer at a time: Li et al., ICLR 2017, arXiv 1608.08710; with the pruned network's own statistics: EagleEye, Li et
al., ECCV 2020, arXiv 2007.02491.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning.graph import ChannelGraph
from pruning.importance import Scores
from pruning.plan import Plan
from pruning.recovery.bn_calibration import BaseMoments, match_statistics
from pruning.recovery.judge import Floats
from ultralytics_versions.heads import named_outputs

LEVELS = (0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Curve:
    """Divergence of the outputs against the ratio of one part; starts at (0, 0) and is made monotone."""

    ratios: tuple[float, ...]
    divergences: tuple[float, ...]

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> Curve:
        """Build the curve from measured (ratio, divergence) points."""
        ordered = [(0.0, 0.0), *sorted(points)]
        rising = np.maximum.accumulate([value for _, value in ordered])
        return cls(tuple(ratio for ratio, _ in ordered), tuple(float(value) for value in rising))

    def at(self, ratio: float) -> float:
        """Return the divergence at a ratio: interpolated, beyond the last point extrapolated at the mean slope."""
        last = self.ratios[-1]
        if ratio > last > 0:
            return self.divergences[-1] * ratio / last
        return float(np.interp(ratio, self.ratios, self.divergences))


@dataclass
class SensitivityProbe:
    """Prunes parts of one network alone and compares the outputs; the base runs once.

    Args:
        batches: (B, 3, H, W) images, 0 to 1, on the device of `model`.
        round_to: as in a plan; curves hold the shares that were really removed.
    """

    model: nn.Module
    graph: ChannelGraph
    batches: Sequence[Tensor]
    scores: Scores
    round_to: int = 1

    def __post_init__(self) -> None:
        """Run the base."""
        self._moments = BaseMoments(self.model, self.batches)
        with recorded_layers(self.model) as self._layers:
            self._base = OutputDivergence(self.model, self.batches)

    def curve(self, groups: Sequence[str], levels: Sequence[float] = LEVELS) -> Curve:
        """Measure the curve of groups that share a ratio. A divergence of 1 means outputs unrelated to the base's."""
        found: dict[float, float] = {}
        for level in levels:
            plan = self.graph.plan(dict.fromkeys(groups, level), self.scores, round_to=self.round_to)
            share = _share_removed(self.graph, plan, groups)
            if share > 0 and share not in found:
                found[share] = self.divergence_of(plan)
        return Curve.through(list(found.items()))

    def removal(self, block: str) -> float:
        """Return the divergence without a block of `graph.blocks` or a level of `graph.levels`."""
        return self.divergence_of(self.graph.plan({}, self.scores, removed=(block,)))

    def divergence_of(self, plan: Plan) -> float:
        """Return the divergence of a pruned network with corrected statistics, untrained; 0 for an empty plan.

        One forward pass, from the first layer that the plan changes: outputs are those of the pass that corrects the
        statistics, for each batch by itself.
        """
        found: list[float] = []
        small = plan.apply(self.model)
        pyramid = self.graph.pyramid
        without = () if pyramid is None else pyramid.among(plan.removed)

        def places(number: int) -> Tensor | None:
            height, width = self.batches[number].shape[-2:]
            return None if pyramid is None or not without else pyramid.places_left(without, height, width)

        self._layers.replay(small, self._unchanged(plan))
        match_statistics(
            small,
            plan,
            self._moments,
            seen=lambda number, outputs: found.append(self._base.divergence(number, outputs, places(number))),
        )
        return float(np.mean(found))

    def _unchanged(self, plan: Plan) -> int:
        """Count the layers of a YOLO before the first one of which the plan takes something."""
        table = self.graph.table
        keep = plan.unit_mask(table)
        cut = [name for (name, _), units in table.slots.items() if not keep[units].all()]
        numbers = [name.split(".")[1] for name in (*cut, *plan.removed) if name.startswith("model.")]
        first = [int(number) for number in numbers if number.isdecimal()]
        if self.graph.pyramid is not None and self.graph.pyramid.among(plan.removed):
            first.append(self.graph.pyramid.first_changed(plan.removed))
        return min(first, default=len(self._layers.outputs))


@dataclass
class LayerOutputs:
    """`outputs[k][b]`: what layer k of a YOLO's own list returned for batch b; empty if nothing was kept."""

    outputs: list[list[Any]]

    def replay(self, model: nn.Module, count: int) -> None:
        """Let the first `count` layers of a network return what was recorded, batch by batch, in place."""
        for layer, recorded in zip(layers_of(model)[:count], self.outputs, strict=False):
            left = iter(recorded)
            layer.forward = lambda *_, left=left: next(left)


MOST_RECORDED = 1 << 30
"""Bytes of recorded outputs. A larger network, or larger images, is run from the beginning."""


@contextmanager
def recorded_layers(model: nn.Module) -> Iterator[LayerOutputs]:
    """Record what every layer of a YOLO returns while inside; nothing of other networks."""
    layers = layers_of(model)
    found, room = LayerOutputs([[] for _ in layers]), MOST_RECORDED

    def record(number: int, output: Any) -> None:
        nonlocal room
        if found.outputs:
            found.outputs[number].append(output)
            room -= sum(leaf.nbytes for leaf in tree_leaves(output) if isinstance(leaf, Tensor))
            if room < 0:
                found.outputs.clear()

    handles = [
        layer.register_forward_hook(lambda _, __, output, number=number: record(number, output))
        for number, layer in enumerate(layers)
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def layers_of(model: nn.Module) -> list[Any]:
    """Return the layers of a YOLO's own list, which it runs in order; none of another network."""
    layers = getattr(model, "model", None)
    addressed = isinstance(layers, nn.Sequential) and all(hasattr(layer, "f") for layer in layers)
    return list(layers) if addressed and isinstance(layers, nn.Sequential) else []


class OutputDivergence:
    """A `Judge` without labels: divergence of a network's outputs from the base's on the same batches."""

    def __init__(self, base: nn.Module, batches: Sequence[Tensor], beat: Callable[[], None] = lambda: None) -> None:
        """Run `base` on `batches` ((B, C, H, W), 0 to 1, on its device); `beat` is called before every batch."""
        self.batches, self.beat = batches, beat
        self.expected = self._outputs_of(base)

    def losses(self, model: nn.Module) -> Floats:
        pairs = zip(self._outputs_of(model), self.expected, strict=True)
        return np.array([divergence(found, expected) for found, expected in pairs], dtype=np.float64)

    def divergence(self, number: int, outputs: Any, places: Tensor | None = None) -> float:
        """Return that of a network's raw outputs on batch `number`.

        `places` are those of its predictions in the base's, where a level was removed: what is not predicted counts as
        a score of 0, so a level costs what it says with confidence.
        """
        found, expected = _outputs(outputs), self.expected[number]
        if places is not None:
            found = {name: _spread(leaf, places, expected[name]) for name, leaf in found.items()}
        return divergence(found, expected)

    @torch.no_grad()
    def _outputs_of(self, model: nn.Module) -> list[dict[str, Tensor]]:
        was_training = model.training
        model.eval()
        found = []
        for batch in self.batches:
            self.beat()
            found.append(_outputs(model(batch)))
        model.train(was_training)
        return found


def _spread(found: Tensor, places: Tensor, expected: Tensor) -> Tensor:
    """Return `found` at its places in a tensor of zeros like `expected`; itself if it has all of them."""
    if found.shape == expected.shape:
        return found
    whole = torch.zeros_like(expected)
    whole[..., places.to(whole.device)] = found
    return whole


def _share_removed(graph: ChannelGraph, plan: Plan, groups: Sequence[str]) -> float:
    """Return the share of the channels of `groups` that a plan removes: rounding and minimums reduce the request."""
    sizes = {group.name: group.size for group in graph.groups}
    widths = plan.widths
    return 1.0 - sum(widths[name] for name in groups) / sum(sizes[name] for name in groups)


def divergence(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return the mean over outputs of the squared difference relative to the squared expected output.

    Class scores are compared as probabilities; other predictions at the same positions (boxes, masks, keypoints) are
    weighted by the base's confidence there.
    """
    parts = []
    for name, target in expected.items():
        weight = _confidence(name, target, expected)
        squared = (weight * (found[name] - target).square()).sum()
        parts.append(float(squared / (weight * target.square()).sum().clamp_min(1e-9)))
    return float(np.mean(parts)) if parts else 0.0  # nothing to compare is no difference


def _confidence(name: str, target: Tensor, expected: Mapping[str, Tensor]) -> Tensor:
    """Return the weight of each position of an output: the base's best class probability, or 1 without positions."""
    head, dot, last = name.rpartition(".")
    scores = expected.get(f"{head}{dot}scores")
    if last == "scores" or scores is None or target.dim() != 3 or target.shape[-1] != scores.shape[-1]:
        return torch.ones((), device=target.device)
    return scores.amax(1, keepdim=True)


def _outputs(value: Any) -> dict[str, Tensor]:
    """Return raw outputs by name, class scores as probabilities. Decoded predictions are dropped if raw ones exist."""
    value = named_outputs(value)
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
