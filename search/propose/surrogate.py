"""What trials say about the prices: which parts of the network the fine-tune repairs, and which it does not.

Symbols: n trials, S stages; x (n, S) prices paid in each stage (allocation.py); a (n,) accuracy after the fine-tune,
a0 the base's.

    -log(a / a0) = sum over s of b_s * x_s,   b >= 0

Accuracy falls by a factor for each price paid, so it ends at zero and not below. The coefficients are drawn towards
one common value, which is what the prices alone would say; as trials come in, stages that recover better than their
price get smaller ones. Uncertainty comes from the Bayesian bootstrap (Rubin, Annals of Statistics 9, 1981): trials
weighted at random give a sample of the coefficients, and acting on a sample is Thompson sampling (Biometrika 25,
1933)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

Floats = npt.NDArray[np.float64]

LEAST = 0.02
"""Accuracy below this share of the base's counts as this share: the logarithm of nothing is not a figure."""
BELIEF = 1.0
"""How many trials the belief in one common coefficient is worth."""
START = 3.0
"""The coefficient before any trial: a price of 0.1 costs a quarter of the accuracy."""


@dataclass(frozen=True)
class Surrogate:
    """coefficients (S,), and the spread of -log(a / a0) around the fit."""

    coefficients: Floats
    residual: float

    def share(self, prices: npt.ArrayLike) -> Floats:
        """(n, S) prices -> (n,) accuracy as a share of the base's."""
        return np.asarray(np.exp(-np.asarray(prices) @ self.coefficients))


def fit_surrogate(prices: npt.ArrayLike, shares: npt.ArrayLike, random: np.random.Generator | None = None) -> Surrogate:
    """Fit to `prices` (n, S) and accuracies as shares of the base's (n,); with `random`, a sample of the posterior."""
    x = np.asarray(prices, dtype=np.float64)
    y = -np.log(np.clip(np.asarray(shares, dtype=np.float64), LEAST, 1.0))
    weights = np.ones(len(y)) if random is None or not len(y) else random.exponential(size=len(y))
    weights = weights * _precision(y)
    common = _common(x, y, weights)
    root = np.sqrt(weights)[:, None]
    typical = float(np.sqrt((weights[:, None] * x**2).sum() / max(len(y), 1) / x.shape[1])) if len(y) else 1.0
    pull = np.sqrt(BELIEF) * max(typical, 1e-6) * np.eye(x.shape[1])
    left = np.concatenate([root * x, pull])
    right = np.concatenate([root[:, 0] * y, pull @ np.full(x.shape[1], common)])
    coefficients, _ = nnls(left, right)
    residual = float(np.sqrt(np.mean((x @ coefficients - y) ** 2))) if len(y) else 1.0
    return Surrogate(np.asarray(coefficients), residual)


def _precision(y: Floats) -> Floats:
    """The error of a logarithm grows with the loss: trials near the base count most."""
    return np.asarray(1.0 / (0.05 + y) ** 2)


def _common(x: Floats, y: Floats, weights: Floats) -> float:
    """The one coefficient that explains all trials best, with the starting value as one more trial."""
    total = x.sum(axis=1)
    above, below = (weights * total * y).sum(), (weights * total**2).sum()
    prior = (weights * total**2).mean() if len(y) else 1.0
    return float((above + prior * START) / max(below + prior, 1e-12))
