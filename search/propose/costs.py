"""Cost of group widths: predicted latency and a small share of the parameters, relative to the base's.

Everything is a quadratic form: channel counts are linear in the group widths, and work is a product of two counts. So a
vector costs microseconds, and a change of one dimension less than that (`Walk`).

Symbols: n rows, G groups, F features of the latency model, N = 1 + 2 G: a row is lifted to (1, widths as kernels see
them, widths).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from objectives.latency.model import LatencyModel
from pruning import ChannelGraph
from pruning.channels import tiled
from pruning.cost import FEATURES, place_of
from search.propose.allocation import CostOf, Floats, Ints

PARAMS_SHARE = 0.05
"""Weight of the share of parameters in the cost: what costs no time is still worth removing."""
ELEMENTS_SHARE = 0.3
"""Expected share of time that goes with the elements written rather than with the arithmetic, before measuring."""


@dataclass(frozen=True)
class LatencyCorrection:
    """Corrects the latency model on shapes chosen by the optimizer, as a function of the prediction.

    Allocation selects what the model underestimates (optimizer's curse), so its shapes are slower than predicted, and
    differently at each budget. The logarithms of measured / predicted are smoothed over the logarithm of the prediction
    (Nadaraya and Watson, 1964) and shrunk to 0 where nothing was measured. It changes no order along the ladder, only
    where on it a budget lies.

    Args:
        logs: (n,) logarithms of factors at `GRID`.
    """

    logs: tuple[float, ...]

    @classmethod
    def through(cls, predicted: Floats, measured: Floats) -> LatencyCorrection:
        """Fit to the ratios (m,) of measured shapes; the base itself is known exactly."""
        at = np.append(np.log(predicted), np.zeros(_BASE_COUNTS))
        off = np.append(np.log(measured / predicted), np.zeros(_BASE_COUNTS))
        near = np.exp(-0.5 * ((GRID[:, None] - at) / _BANDWIDTH) ** 2)
        smooth = near @ off / (near.sum(axis=1) + _NOTHING)
        rising = np.maximum.accumulate(GRID + smooth)  # what is predicted to be faster is faster
        return cls(tuple((rising - GRID).tolist()))

    def factor(self, ratio: Floats) -> Floats:
        """Map predicted ratios (n,) to factors (n,)."""
        return np.asarray(np.exp(np.interp(np.log(np.maximum(ratio, 1e-3)), GRID, self.logs)))


GRID = np.linspace(np.log(0.05), np.log(1.1), 64)
_BANDWIDTH, _NOTHING, _BASE_COUNTS = 0.12, 0.3, 3


@dataclass(frozen=True)
class WidthCost:
    """Cost of group widths as a share of the base's: predicted latency and a small share of the parameters.

    `latency` None: MACs are used instead. `correction` corrects the prediction.
    """

    graph: ChannelGraph
    latency: LatencyModel | None = None
    correction: LatencyCorrection | None = None
    _forms: dict[tuple[str, ...], Forms] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, widths: Ints, removed: tuple[str, ...]) -> Floats:
        forms = self.forms(removed)
        time = _evaluated(forms.time, tiled(widths, self.tile))
        corrected = time if self.correction is None else time * self.correction.factor(time / (1 - PARAMS_SHARE))
        return np.asarray(corrected + _evaluated(forms.exact, widths))

    def walk(self, widths: Ints, removed: tuple[str, ...]) -> FormWalk:
        """Start a walk, without the correction, which moves budgets but changes no order."""
        return FormWalk(self.forms(removed), self.tile, widths)

    @property
    def tile(self) -> int:
        """Widths are rounded up to multiples of this before their latency is predicted."""
        return 1 if self.latency is None else self.latency.tile

    def forms(self, removed: tuple[str, ...]) -> Forms:
        """Return the forms of the network without these blocks."""
        if removed not in self._forms:
            self._forms[removed] = Forms((1 - PARAMS_SHARE) * self._time_form(removed), self._params_form(removed))
        return self._forms[removed]

    def measured(self, widths: Ints, removed: tuple[str, ...], ratio: float) -> float:
        """Return the cost of one vector (G,) with a measured latency ratio to the base."""
        params = self.graph.costs_without(removed).of_widths(widths).params
        return (1 - PARAMS_SHARE) * ratio + PARAMS_SHARE * params / self.graph.cost().params

    def _params_form(self, removed: tuple[str, ...]) -> Floats:
        costs = self.graph.costs_without(removed)
        return costs.form(macs={}, elements={}, params=PARAMS_SHARE / self.graph.cost().params)

    def _time_form(self, removed: tuple[str, ...]) -> Floats:
        if self.latency is None:
            return _macs_form(self.graph, removed)
        costs = self.graph.costs_without(removed)
        constant, *slopes = self.latency.coefficients
        per_unit = np.divide(slopes, self.latency.base, out=np.zeros(len(slopes)), where=self.latency.base > 0)
        weights = dict(zip(self.latency.names, per_unit.tolist(), strict=True))
        macs, elements = ({n.removeprefix(k): w for n, w in weights.items() if n.startswith(k)} for k in FEATURES)
        return costs.form(macs=macs, elements=elements, params=0.0, constant=constant)


@dataclass(frozen=True)
class Limits:
    """A budget of parameters or MACs, as shares of the base's, alone or combined with the cost.

    Args:
        cost: largest share of the cost; None if not limited.
    """

    graph: ChannelGraph
    params: float | None = None
    macs: float | None = None
    cost: float | None = None
    _known: dict[tuple[float, float], LimitedCost] = field(default_factory=dict, repr=False, compare=False)

    def over(self, cost: CostOf, time: float = 1.0, work: float = 1.0) -> LimitedCost:
        if not isinstance(cost, WidthCost):
            raise TypeError(f"only a WidthCost can be limited, not a {type(cost).__name__}")
        known = self._known.get((time, work))
        if known is None or known.cost is not cost:
            known = self._known[time, work] = LimitedCost(self._scaled(time, work), cost)
        return known

    def _scaled(self, time: float, work: float) -> Limits:
        macs, cost = self.macs, self.cost
        return replace(
            self, macs=None if macs is None else macs / work, cost=None if cost is None else cost / time, _known={}
        )


class LimitedCost:
    """The largest utilisation of any limit.

    A walk sees the sum of all shares, so that slack in one limit is used up by later steps (`Allocator` widens and
    exchanges within the budget), and a small share of the cost, so that options without parameters are still optimised
    for latency.
    """

    def __init__(self, limits: Limits, cost: WidthCost) -> None:
        self.limits, self.cost = limits, cost
        self._forms: dict[tuple[str, ...], Forms] = {}
        self._macs: dict[tuple[str, ...], Floats] = {}

    def __call__(self, widths: Ints, removed: tuple[str, ...]) -> Floats:
        limits = self.limits
        shares = [self.cost(widths, removed) / limits.cost] if limits.cost is not None else []
        if limits.params is not None:
            shares.append(_evaluated(self.cost.forms(removed).exact, widths) / (PARAMS_SHARE * limits.params))
        if limits.macs is not None:
            shares.append(_evaluated(self._macs_of(removed), widths) / limits.macs)
        return np.asarray(np.max(shares, axis=0))

    def _macs_of(self, removed: tuple[str, ...]) -> Floats:
        if removed not in self._macs:
            self._macs[removed] = _macs_form(self.limits.graph, removed)
        return self._macs[removed]

    def walk(self, widths: Ints, removed: tuple[str, ...]) -> FormWalk:
        if removed not in self._forms:
            limits, inner = self.limits, self.cost.forms(removed)
            weight = _UNLIMITED if limits.cost is None else 1 / limits.cost
            exact = weight * inner.exact
            if limits.params is not None:
                exact = exact + inner.exact / (PARAMS_SHARE * limits.params)
            if limits.macs is not None:
                exact = exact + self._macs_of(removed) / limits.macs
            self._forms[removed] = Forms(weight * inner.time, exact)
        return FormWalk(self._forms[removed], self.cost.tile, widths)


_UNLIMITED = 0.1
"""Weight of the cost in a walk where only parameters or multiply-accumulates are limited."""


def _macs_form(graph: ChannelGraph, removed: tuple[str, ...]) -> Floats:
    places = {place_of(owner) for owner in graph.costs.owners[1]}
    share = 1 / graph.cost().macs
    return graph.costs_without(removed).form(macs=dict.fromkeys(places, share), elements={}, params=0.0)


class Forms:
    """Quadratic forms of one network: `time` of the tiled widths, `exact` of the widths, both (G + 1, G + 1) and
    weighted, and `both` of the lifted row, symmetric (N, N).
    """

    def __init__(self, time: Floats, exact: Floats) -> None:
        self.time, self.exact = time, exact
        width = len(time) - 1
        both = np.zeros((1 + 2 * width, 1 + 2 * width))
        both[: width + 1, : width + 1] = time
        at = np.concatenate([[0], np.arange(width + 1, 2 * width + 1)])
        both[np.ix_(at, at)] += exact
        self.both = (both + both.T) / 2
        self._options: dict[int, tuple[Ints, OptionsForm]] = {}

    def options(self, columns: Ints, widths: Ints, tile: int) -> OptionsForm:
        """Return the part of a table of widths that does not depend on the position of a walk; cached."""
        known = self._options.get(id(widths))
        if known is None or known[0] is not widths:
            at = np.concatenate([columns + 1, columns + len(self.exact)])
            rows = np.concatenate([tiled(widths, tile), widths], axis=1).astype(np.float64)
            inner = self.both[at[:, None], at]
            known = widths, OptionsForm(at, rows, inner, ((rows @ inner) * rows).sum(axis=1))
            self._options[id(widths)] = known
        return known[1]


class OptionsForm(NamedTuple):
    """Columns in a lifted row (2 m,); options lifted (k, 2 m); the form between them; the options' squares (k,)."""

    at: Ints
    rows: Floats
    inner: Floats
    squares: Floats


class FormWalk:
    """A `Walk` that keeps form @ row, so that a table costs (k, 2 m) products and not (k, N, N)."""

    def __init__(self, forms: Forms, tile: int, widths: Ints) -> None:
        self._forms, self._tile = forms, tile
        self._row = np.concatenate([[1.0], tiled(widths, tile), widths])
        self._pull = forms.both @ self._row

    def choices(self, columns: Ints, widths: Ints) -> Floats:
        at, rows, inner, squares = self._forms.options(columns, widths, self._tile)
        others = self._pull[at] - inner @ self._row[at]
        return np.asarray(2 * (rows @ others) + squares)

    def take(self, columns: Ints, widths: Ints, entry: int) -> None:
        at, rows, _, _ = self._forms.options(columns, widths, self._tile)
        self._pull += self._forms.both[:, at] @ (rows[entry] - self._row[at])
        self._row[at] = rows[entry]


def _evaluated(form: Floats, widths: Ints) -> Floats:
    """Evaluate a quadratic form of (1, widths) at widths (n, G); returns (n,)."""
    extended = np.concatenate([np.ones((len(widths), 1)), widths], axis=1)
    return np.asarray(((extended @ form) * extended).sum(axis=1))


def layer_rates(graph: ChannelGraph, latency: LatencyModel, base_ms: float) -> dict[str, dict[str, float]]:
    """Return the latency model by layers, in milliseconds: {layer: {per_product, per_output, constant}}.

    For the report's what-if view: per_product times c_in * c_out, per_output times c_out. The model's own constant is
    left out.
    """
    slopes = base_ms * latency.coefficients[1:]
    per_unit = np.divide(slopes, latency.base, out=np.zeros(len(slopes)), where=latency.base > 0)
    weights = dict(zip(latency.names, per_unit.tolist(), strict=True))
    terms, found = graph.costs.macs, dict[str, dict[str, float]]()
    rows = zip(graph.costs.owners[1], terms.factor, terms.left, terms.right, terms.positions, strict=True)
    for owner, factor, left, right, positions in rows:
        place = place_of(owner)
        kind = "per_product" if left and right else "per_output" if left else "constant"
        rates = found.setdefault(owner.rstrip("."), {"per_product": 0.0, "per_output": 0.0, "constant": 0.0})
        rates[kind] += weights[FEATURES[0] + place] * float(factor)
        rates["per_output"] += weights[FEATURES[1] + place] * float(positions)
    return found


def expected_shares(graph: ChannelGraph) -> Floats:
    """Return the expected share of the base's time of each feature of `CostModel.work` (F,)."""
    _, work = graph.costs.work(graph.table.full_widths()[None])
    macs, elements = np.split(work[0], 2)
    return np.concatenate([(1 - ELEMENTS_SHARE) * macs / macs.sum(), ELEMENTS_SHARE * elements / elements.sum()])
