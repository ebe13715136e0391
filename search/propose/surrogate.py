"""Surrogate model: learn from trials how the price of each stage translates to accuracy after the fine-tune.

Symbols: n trials, S stages; x (n, S) prices paid in each stage (allocation.py); a (n,) accuracy after the fine-tune, a0
the base's.

    -log(a / a0) = (sum over s of b_s * x_s) ^ g,   b >= 0

Accuracy falls by a factor, so it stays positive; it falls steeply at first, hence a power below 1, fitted once there
are enough trials. The coefficients are shrunk towards one common value, i.e. to the prices as measured; with more
trials, stages that recover better than their price get smaller ones. Uncertainty comes from the Bayesian bootstrap
(Rubin, Annals of Statistics 9, 1981): trials weighted at random give a sample of the coefficients, and acting on a
sample is Thompson sampling (Biometrika 25, 1933).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAST = 0.02
"""Accuracy below this share of the base's counts as this share: the logarithm of nothing is not a figure."""
BELIEF = 1.0
"""How many trials the belief in one common coefficient is worth."""
START = 3.0
"""The coefficient before any trial: at the power `POWER`, a price of 0.02 costs an eighth of the accuracy."""
POWER = 0.7
POWERS = (0.5, 0.7, 1.0)
FEWEST = 6
"""Trials below which the power stays `POWER`."""
_TURNS = 3
_NEAR = 0.02
"""Losses below this weigh as this one: they are within the error of the accuracy."""


@dataclass(frozen=True)
class Surrogate:
    """Coefficients (S,), the spread of -log(a / a0) around the fit, and the power."""

    coefficients: Floats
    residual: float
    power: float = 1.0

    def share(self, prices: npt.ArrayLike) -> Floats:
        """Predict accuracies (n,) as shares of the base's from prices (n, S)."""
        return np.asarray(np.exp(-((np.asarray(prices) @ self.coefficients) ** self.power)))


def fit_surrogate(prices: npt.ArrayLike, shares: npt.ArrayLike, random: np.random.Generator | None = None) -> Surrogate:
    """Fit to `prices` (n, S) and accuracies as shares of the base's (n,); with `random`, a sample of the posterior."""
    x = np.asarray(prices, dtype=np.float64)
    y = -np.log(np.clip(np.asarray(shares, dtype=np.float64), LEAST, 1.0))
    drawn = np.ones(len(y)) if random is None or not len(y) else random.exponential(size=len(y))
    powers = POWERS if len(y) >= FEWEST else (POWER,)
    return min((_reweighted(x, y, drawn, power) for power in powers), key=lambda fit: fit.residual)


def _reweighted(x: Floats, losses: Floats, drawn: Floats, power: float) -> Surrogate:
    """Fit again with most weight on trials near the base, or predicted to be.

    A network that was predicted to keep half of its accuracy and kept none carries information.
    """
    fit = _fitted(x, losses, drawn * _precision(losses), power)
    for _ in range(_TURNS if len(losses) else 0):
        expected = (x @ fit.coefficients) ** power
        fit = _fitted(x, losses, drawn * _precision(np.minimum(losses, expected)), power)
    return fit


def _fitted(x: Floats, losses: Floats, trust: Floats, power: float) -> Surrogate:
    """Fit with one power: linear in the losses to the power of 1 / g, each weighted by its precision there."""
    from scipy.optimize import nnls  # half a second of imports that a study without a guide does not pay

    y = losses ** (1 / power)
    weights = trust / (np.maximum(losses, _NEAR) ** (1 / power - 1) / power) ** 2
    common = _common(x, y, weights)
    root = np.sqrt(weights)[:, None]
    typical = float(np.sqrt((weights[:, None] * x**2).sum() / max(len(y), 1) / x.shape[1])) if len(y) else 1.0
    pull = np.sqrt(BELIEF) * max(typical, 1e-6) * np.eye(x.shape[1])
    left = np.concatenate([root * x, pull])
    right = np.concatenate([root[:, 0] * y, pull @ np.full(x.shape[1], common)])
    coefficients, _ = nnls(left, right)
    off = (x @ coefficients) ** power - losses
    residual = float(np.sqrt((trust * off**2).sum() / trust.sum())) if len(y) else 1.0
    return Surrogate(np.asarray(coefficients), residual, power)


def _precision(y: Floats) -> Floats:
    """Return the precision of a logarithm, whose error grows with the loss."""
    return np.asarray(1.0 / (0.05 + y) ** 2)


def _common(x: Floats, y: Floats, weights: Floats) -> float:
    """Return the single coefficient that explains all trials best, with the starting value as one more trial."""
    total = x.sum(axis=1)
    above, below = (weights * total * y).sum(), (weights * total**2).sum()
    prior = (weights * total**2).mean() if len(y) else 1.0
    return float((above + prior * START) / max(below + prior, 1e-12))
