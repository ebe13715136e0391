"""From a traced model to an allocator: which widths each dimension can have, and what they cost.

The only place where the proposing side reads the graph: allocation itself knows menus and a cost function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from objectives.latency_model import LatencyModel
from pruning import ChannelGraph
from pruning.cost import FEATURES, place_of
from pruning.plan import realised_widths
from pruning.sensitivity import Curve
from search.propose.allocation import Allocator, Floats, Ints, Menu, Removal, menu_of, removal_of
from search.space import Dimension, Space

PARAMS_SHARE = 0.05
"""Weight of the share of parameters in the cost: what costs no time is still worth removing."""
CHANNELS_SHARE = 0.3
"""Expected share of time that goes with the channels written rather than with the arithmetic, before measuring."""


@dataclass(frozen=True)
class WidthCost:
    """Cost of group widths as a share of the base's: predicted latency and a little of the parameters.

    `latency` None: multiply-accumulates stand for it.
    """

    graph: ChannelGraph
    latency: LatencyModel | None = None
    _forms: dict[tuple[str, ...], Floats] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, widths: Ints, removed: tuple[str, ...]) -> Floats:
        """See `CostOf`."""
        if removed not in self._forms:
            self._forms[removed] = self._form(removed)
        extended = np.concatenate([np.ones((len(widths), 1)), widths], axis=1)
        return np.asarray(((extended @ self._forms[removed]) * extended).sum(axis=1))

    def _form(self, removed: tuple[str, ...]) -> Floats:
        base, costs = self.graph.cost(), self.graph.costs_without(removed)
        params = PARAMS_SHARE / base.params
        if self.latency is None:
            places = {place_of(owner) for owner in self.graph.costs.owners[1]}
            return costs.form(macs=dict.fromkeys(places, (1 - PARAMS_SHARE) / base.macs), channels={}, params=params)
        constant, *slopes = (1 - PARAMS_SHARE) * self.latency.coefficients
        per_unit = np.divide(slopes, self.latency.base, out=np.zeros(len(slopes)), where=self.latency.base > 0)
        weights = dict(zip(self.latency.names, per_unit.tolist(), strict=True))
        macs, channels = ({n.removeprefix(k): w for n, w in weights.items() if n.startswith(k)} for k in FEATURES)
        return costs.form(macs=macs, channels=channels, params=params, constant=constant)


def work_of(graph: ChannelGraph, widths: Ints, removed: tuple[str, ...] = ()) -> Floats:
    """(n, G) group widths -> (n, F) work in the columns of the base, whatever blocks are gone."""
    names, values = graph.costs_without(removed).work(widths)
    columns = {name: number for number, name in enumerate(names)}
    zeros = np.zeros(len(values))
    return np.stack([values[:, columns[n]] if n in columns else zeros for n in feature_names(graph)], axis=1)


def layer_rates(graph: ChannelGraph, latency: LatencyModel, base_ms: float) -> dict[str, dict[str, float]]:
    """The latency model by layers, in milliseconds: {layer: {per_product, per_output, constant}}.

    The page's what-if reads it: per_product times c_in * c_out, per_output times c_out. The model's own constant is not
    in it.
    """
    slopes = base_ms * latency.coefficients[1:]
    per_unit = np.divide(slopes, latency.base, out=np.zeros(len(slopes)), where=latency.base > 0)
    weights = dict(zip(latency.names, per_unit.tolist(), strict=True))
    terms, found = graph.costs.macs, dict[str, dict[str, float]]()
    for owner, factor, left, right in zip(graph.costs.owners[1], terms.factor, terms.left, terms.right, strict=True):
        place = place_of(owner)
        kind = "per_product" if left and right else "per_output" if left else "constant"
        rates = found.setdefault(owner.rstrip("."), {"per_product": 0.0, "per_output": 0.0, "constant": 0.0})
        rates[kind] += weights[FEATURES[0] + place] * float(factor)
        if left:
            rates["per_output"] += weights[FEATURES[1] + place]
    return found


def feature_names(graph: ChannelGraph) -> tuple[str, ...]:
    """(F,) names of the features that a latency model of this network is fitted on."""
    return graph.costs.work(graph.table.full_widths()[None])[0]


def expected_shares(graph: ChannelGraph) -> Floats:
    """(F,) share of the base's time that each feature of `CostModel.work` is expected to take."""
    _, work = graph.costs.work(graph.table.full_widths()[None])
    macs, channels = np.split(work[0], 2)
    return np.concatenate([(1 - CHANNELS_SHARE) * macs / macs.sum(), CHANNELS_SHARE * channels / channels.sum()])


def allocator_of(
    graph: ChannelGraph,
    space: Space,
    curves: Mapping[str, Curve],
    round_to: int,
    latency: LatencyModel | None = None,
) -> Allocator:
    """The allocator of a space with one dimension per tie of groups, from sensitivity curves of its dimensions and
    blocks."""
    stages = {group.name: group.stage for group in graph.groups}
    menus = tuple(_menu(graph, d, curves[d.name], round_to, stages[d.groups[0]]) for d in space.dimensions)
    removals = tuple(_removal(space, block.path, block.parameter, curves, stages) for block in space.blocks)
    return Allocator(space, menus, removals, graph.table.full_widths(), WidthCost(graph, latency))


def _menu(graph: ChannelGraph, dimension: Dimension, curve: Curve, round_to: int, stage: str) -> Menu:
    """Every width that the dimension can have within its bounds, found by asking for each share of its widest group."""
    columns = [graph.table.numbers[name] for name in dimension.groups]
    ties = {int(graph.table.ties[column]) for column in columns}
    full = graph.table.full_widths()
    found: dict[tuple[int, ...], float] = {}
    most = int(max(full[column] for column in columns))
    for kept in range(most, 0, -1):
        ratio = 1 - kept / most
        if dimension.low <= ratio <= dimension.high:
            widths = realised_widths(graph, dict.fromkeys(ties, ratio), round_to, 1)
            found.setdefault(tuple(int(widths[column]) for column in columns), ratio)
    shares = [1 - sum(widths) / sum(int(full[c]) for c in columns) for widths in found]
    prices = Curve.through([(share, curve.at(share)) for share in shares if share > 0])
    menu = menu_of(dimension.name, columns, list(found), shares, prices, stage)
    return Menu(menu.name, menu.columns, menu.widths, np.array(list(found.values())), menu.prices, stage)


def _removal(
    space: Space, path: str, parameter: str, curves: Mapping[str, Curve], stages: Mapping[str, str]
) -> Removal:
    block = next(block for block in space.blocks if block.path == path)
    stage = stages[block.groups[0]] if block.groups else path
    return removal_of(space, path, curves[parameter].at(1.0), stage)
