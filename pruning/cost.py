"""Exact parameters and multiply-accumulates of a plan, from widths alone, for many candidates at once.

Every tensor dimension keeps a number of channels that is linear in the group widths; a tensor's parameters and a
layer's MACs are products of at most two such numbers. So cost is two small matrix products: nothing is built.

Symbols: n candidates, G groups, S dimensions ("slots"), T terms.
    counts (n, S) = widths (n, G) @ per_width (G, S);   cost (n,) = sum over terms of factor * counts[i] * counts[j]

MACs count convolutions, transposed convolutions, linear layers and the matrix products of attention for one input,
as `torch.utils.flop_counter` does (its FLOPs are twice these); normalisation and activations are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import numpy.typing as npt
from torch import nn

from pruning.trace.groups import GroupTable, Ints
from pruning.trace.tracer import Product, Slot

Floats = npt.NDArray[np.float64]
BATCH = 4096
FEATURES = ("macs of ", "elements of ")
"""The two kinds of work that are told apart at each place of the network."""


@dataclass(frozen=True)
class Cost:
    """Parameters and multiply-accumulates (MACs, one input) of a model."""

    params: int
    macs: int


@dataclass(frozen=True)
class Terms:
    """Terms `factor` (T,) times two channel counts (by index; 0: the constant 1), and the elements each one writes."""

    factor: Floats
    left: Ints
    right: Ints
    positions: Floats

    def only(self, keep: Sequence[bool]) -> Terms:
        """Select the terms where `keep` is true."""
        mask = np.array(keep, dtype=bool)
        return Terms(self.factor[mask], self.left[mask], self.right[mask], self.positions[mask])

    def scaled(self, shares: Floats) -> Terms:
        """Multiply factors and positions by `shares` (T,), to the next whole number."""
        return replace(self, factor=np.rint(self.factor * shares), positions=np.rint(self.positions * shares))

    def total(self, counts: Floats) -> Floats:
        """Sum the terms for counts (n, S + 1); returns (n,)."""
        products: Floats = counts[:, self.left] * counts[:, self.right]
        return products @ self.factor


@dataclass(frozen=True)
class CostModel:
    """Parameters and MACs as functions of the group widths. Exact: all numbers stay below 2**53.

    `owners` are the names of the tensor or product of each term: params first, then macs.
    """

    per_width: Floats
    params: Terms
    macs: Terms
    owners: tuple[tuple[str, ...], tuple[str, ...]]

    @classmethod
    def build(cls, products: Sequence[Product], table: GroupTable, model: nn.Module) -> CostModel:
        """Build the model from `products`, the MACs of one inference; parameters are read from the model's shapes."""
        column = {slot: number + 1 for number, slot in enumerate(table.slots)}
        group_of_unit = np.repeat(np.arange(len(table.names)), np.diff(table.starts))
        per_width = np.zeros((len(table.names), len(table.slots)))
        for number, units in enumerate(table.slots.values()):
            touched, times = np.unique(group_of_unit[units], return_counts=True)
            per_width[touched, number] = times / np.diff(table.starts)[touched]
        params = [_parameter(column, name, tuple(value.shape)) for name, value in model.named_parameters()]
        owners = tuple(name for name, _ in model.named_parameters()), tuple(p.owner for p in products)
        return cls(per_width, _terms(params, column), _terms(products, column), owners)

    def without(self, removed: Mapping[str, str | None], table: GroupTable) -> CostModel:
        """Return the cost model without blocks: path -> the block that concatenates its output (None in a plain chain).

        The terms of the block are dropped, and a reader's `cv2` loses as many inputs as the block has outputs.
        """
        left = self.without_parts(tuple(f"{path}." for path in removed))
        slots = list(table.slots)
        per_width = self.per_width.copy()
        for path, reader in removed.items():
            if reader is not None:
                last = next(slot for slot in reversed(table.outputs) if slot[0].startswith(f"{path}."))
                per_width[:, slots.index((f"{reader}.cv2.conv.weight", 1))] -= self.per_width[:, slots.index(last)]
        return replace(left, per_width=per_width)

    def without_parts(self, prefixes: tuple[str, ...], shares: Mapping[str, float] | None = None) -> CostModel:
        """Return the cost model without the modules whose names begin with a prefix.

        `shares`: prefix -> share of their MACs and elements that other modules keep, which work at fewer positions.
        """
        params, macs = (
            terms.only([not name.startswith(prefixes) for name in names])
            for terms, names in zip((self.params, self.macs), self.owners, strict=True)
        )
        owners = tuple(tuple(n for n in names if not n.startswith(prefixes)) for names in self.owners)
        for prefix, share in (shares or {}).items():
            macs = macs.scaled(np.array([share if name.startswith(prefix) else 1.0 for name in owners[1]]))
        return CostModel(self.per_width, params, macs, (owners[0], owners[1]))

    def of_widths(self, widths: Ints) -> Cost:
        """Return the cost of one vector of group widths (G,)."""
        params, macs = self.of_many(np.asarray(widths)[None])
        return Cost(int(params[0]), int(macs[0]))

    def of_many(self, widths: npt.ArrayLike) -> tuple[Ints, Ints]:
        """Return parameters (n,) and MACs (n,) of group widths (n, G)."""
        all_widths = np.asarray(widths, dtype=np.float64)
        parts = [self._batch(all_widths[i : i + BATCH]) for i in range(0, len(all_widths), BATCH)]
        params, macs = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        return params.astype(np.int64), macs.astype(np.int64)

    def _batch(self, widths: Floats) -> tuple[Floats, Floats]:
        counts = np.concatenate([np.ones((len(widths), 1)), widths @ self.per_width], axis=1)
        return self.params.total(counts), self.macs.total(counts)

    def work(self, widths: npt.ArrayLike) -> tuple[tuple[str, ...], Floats]:
        """Return the features of a latency model: names (F,), and their values (n, F) at group widths (n, G).

        For every part of the network (`place_of`) there are two: the MACs of its layers, which are sums of c_in *
        c_out, and the elements that they write (activations, i.e. memory traffic).
        """
        all_widths = np.asarray(widths, dtype=np.float64)
        counts = np.concatenate([np.ones((len(all_widths), 1)), all_widths @ self.per_width], axis=1)
        macs = counts[:, self.macs.left] * counts[:, self.macs.right] * self.macs.factor
        elements = counts[:, self.macs.left] * self.macs.positions
        places = [place_of(owner) for owner in self.owners[1]]
        names = tuple(dict.fromkeys(places))
        into = np.array([[place == name for name in names] for place in places], dtype=np.float64)
        return tuple(kind + name for kind in FEATURES for name in names), np.concatenate(
            [macs @ into, elements @ into], axis=1
        )

    def form(
        self, *, macs: Mapping[str, float], elements: Mapping[str, float], params: float, constant: float = 0.0
    ) -> Floats:
        """Return a weighted cost as a quadratic form (G + 1, G + 1), applied to (1, widths) on both sides.

        `macs` and `elements` weigh the features of `work` by place, `params` every parameter. Each count is linear in
        the widths and each term a product of two counts, so the form is exact; evaluating it takes microseconds.
        """
        extended = np.zeros((len(self.per_width) + 1, self.per_width.shape[1] + 1))
        extended[0, 0] = 1.0
        extended[1:, 1:] = self.per_width
        places = [place_of(owner) for owner in self.owners[1]]
        products = self.macs.factor * np.array([macs.get(place, 0.0) for place in places])
        written = self.macs.positions * np.array([elements.get(place, 0.0) for place in places])
        form = _outer(extended, products, self.macs.left, self.macs.right)
        form += _outer(extended, written, self.macs.left, np.zeros_like(self.macs.left))
        form += _outer(extended, params * self.params.factor, self.params.left, self.params.right)
        form[0, 0] += constant
        return form

    def share_touching(self, groups: npt.NDArray[np.bool_], widths: Ints) -> float:
        """Return the share of all MACs at `widths` (G,) in terms that depend on a group of the mask (G,)."""
        touched = np.concatenate([[False], self.per_width[groups].any(axis=0)])
        inside = touched[self.macs.left] | touched[self.macs.right]
        counts = np.concatenate([[1.0], widths @ self.per_width])
        worth = self.macs.factor * counts[self.macs.left] * counts[self.macs.right]
        return float(worth[inside].sum() / worth.sum())


def _outer(extended: Floats, weights: Floats, left: Ints, right: Ints) -> Floats:
    """Sum weight * count[left] * count[right] over the terms, as a quadratic form of the extended widths."""
    return np.asarray((extended[:, left] * weights) @ extended[:, right].T)


def place_of(owner: str) -> str:
    """Return the part of the network that a layer belongs to: its top-level module (`model.4` of `model.4.cv1`).

    Modules that hold parallel branches at several resolutions (`cv2`, `cv3`, ... of a detection head, one entry each)
    are split by branch: `model.22.cv2.0`.
    """
    parts = owner.rstrip(".").split(".")
    branch = len(parts) > 4 and parts[2].startswith(("cv", "one2one")) and parts[3].isdigit()
    return ".".join(parts[:4] if branch else parts[:2])


def _parameter(column: Mapping[Slot, int], name: str, shape: tuple[int, ...]) -> Product:
    """Return a tensor's size as a product of its dimensions, of which at most two are channels."""
    slots = tuple((name, dim) for dim in range(len(shape)) if (name, dim) in column)
    fixed = [length for dim, length in enumerate(shape) if (name, dim) not in column]
    return Product(prod(fixed), slots)


_PER_TERM = ("factor", "positions")


def _terms(products: Sequence[Product], column: Mapping[Slot, int]) -> Terms:
    pairs = [([column[slot] for slot in p.slots] + [0, 0])[:2] for p in products]
    sides = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    factor, positions = (np.array([getattr(p, name) for p in products], dtype=np.float64) for name in _PER_TERM)
    return Terms(factor, sides[:, 0], sides[:, 1], positions)
