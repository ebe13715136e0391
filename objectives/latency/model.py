"""Latency from widths: a linear model of the work done in each part of a network, fitted to measured candidates.

Symbols: n measured candidates, F features, x (n, F) work relative to the base's, y (n,) latency ratio to the base.

    y = b0 + sum over f of b_f * x_f,   b >= 0,   the base is at x = 1, y = 1

Work is what the caller says it is; for pruned networks the sums of c_in * c_out of the convolutions of each part, and
the channels that it writes (pruning.cost). Latency depends on the two widths of a layer jointly, so the product is a
feature and the widths alone are not enough (HALP, Shen et al., NeurIPS 2022, arXiv 2110.10811; MDP, Sun et al., CVPR
2025, arXiv 2504.02168). Coefficients cannot be negative: more work does not take less time. A ridge penalty,
whose strength cross-validation chooses, shrinks them towards the shares of the base's time that the caller expects, so
that a dozen candidates are enough to start with.

Kernels work on channels in tiles: 9 channels may cost as much as 16. The caller may round widths up to multiples of a
tile before computing the work, fit one model per tile, and keep the one that cross-validates best; the model stores its
tile.

A prediction carries its error: the cross-validated residual, widened by the candidate's distance from the measured
ones. Where that exceeds `TRUSTED`, the prediction is marked as unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from objectives.errors import ObjectiveError
from objectives.objective import Z95, Estimate

Floats = npt.NDArray[np.float64]

FOLDS = 5
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
FEWEST = 8
"""Below this many measured candidates no model is fitted."""
TRUSTED = 0.15
"""Relative half-width of the 95 % interval above which a prediction is a guess."""
_CONSTANT_SHARE = 0.15
"""Share of the base's time that the prior gives to what does not depend on widths."""
_LEAST_SCALE = 0.1
_BASE_COUNTS = 5


@dataclass(frozen=True)
class LatencyModel:
    """A fitted model. Plain data, serialises to JSON.

    Attributes:
        names: (F,) features, in the order of the caller's columns.
        base: (F,) work of the base.
        coefficients: (F + 1,) shares of the base's latency; the first is the constant part.
        covariance: (F + 1, F + 1) of the coefficients, in units of `residual` squared.
        residual: cross-validated standard deviation of predicted / measured - 1.
        measured: number of candidates it was fitted to.
        tile: widths are rounded up to multiples of this before their work is counted.
    """

    names: tuple[str, ...]
    base: Floats
    coefficients: Floats
    covariance: Floats
    residual: float
    measured: int
    tile: int = 1

    @classmethod
    def fit(
        cls,
        names: Sequence[str],
        base: npt.ArrayLike,
        work: npt.ArrayLike,
        ratios: npt.ArrayLike,
        shares: npt.ArrayLike,
        tile: int = 1,
    ) -> LatencyModel:
        """Fit to `work` (n, F) and measured `ratios` (n,) of candidates to the base, whose own work is `base` (F,).

        `shares` (F,): the share of the base's time that each feature is expected to take, before anything is measured.

        Raises:
            ObjectiveError: fewer than `FEWEST` candidates, figures that are not finite and positive, or shapes that
                do not agree.
        """
        reference, y = np.asarray(base, dtype=np.float64), np.asarray(ratios, dtype=np.float64)
        x = _relative(np.asarray(work, dtype=np.float64), reference)
        _check(names, reference, x, y)
        expected = np.asarray(shares, dtype=np.float64)
        prior = np.concatenate([[_CONSTANT_SHARE], (1 - _CONSTANT_SHARE) * expected / expected.sum()])
        errors = {strength: _cross_validated(x, y, prior, strength) for strength in STRENGTHS}
        strength = min(errors, key=errors.__getitem__)
        coefficients, covariance = _ridge(x, y, prior, strength)
        return cls(tuple(names), reference, coefficients, covariance, errors[strength], len(y), tile)

    def predict(self, work: npt.ArrayLike) -> Floats:
        """Return the predicted latency ratio to the base (n,) for work (n, F)."""
        return np.asarray(_relative(np.asarray(work, dtype=np.float64), self.base) @ self.coefficients)

    def estimate(self, work: Sequence[float]) -> Estimate:
        """Return the ratio of one candidate with its 95 % interval."""
        row = _relative(np.asarray([work], dtype=np.float64), self.base)[0]
        value = float(row @ self.coefficients)
        spread = value * self.residual * float(np.sqrt(1.0 + row @ self.covariance @ row))
        return Estimate(value, max(0.0, value - Z95 * spread), value + Z95 * spread)

    def knows(self, work: Sequence[float]) -> bool:
        """Return whether the prediction's interval is narrow enough to act on (`TRUSTED`)."""
        estimate = self.estimate(work)
        return estimate.high - estimate.value <= TRUSTED * estimate.value

    def to_json(self) -> dict[str, Any]:
        """Return plain data, which the report's what-if view reads too."""
        return {
            "names": list(self.names),
            "base": self.base.tolist(),
            "coefficients": self.coefficients.tolist(),
            "covariance": self.covariance.tolist(),
            "residual": self.residual,
            "measured": self.measured,
            "tile": self.tile,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LatencyModel:
        """Parse the output of `to_json`."""
        base, coefficients, covariance = (np.asarray(data[key]) for key in ("base", "coefficients", "covariance"))
        residual, measured, tile = float(data["residual"]), int(data["measured"]), int(data.get("tile", 1))
        return cls(tuple(data["names"]), base, coefficients, covariance, residual, measured, tile)


def _check(names: Sequence[str], base: Floats, x: Floats, y: Floats) -> None:
    if len(y) < FEWEST:
        raise ObjectiveError(f"A latency model needs at least {FEWEST} measured candidates, found {len(y)}.")
    if x.shape != (len(y), len(names) + 1) or base.shape != (len(names),):
        raise ObjectiveError(f"Shapes disagree: {len(names)} names, base {base.shape}, {len(y)} ratios.")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (y > 0).all()):
        raise ObjectiveError("A latency model is fitted to finite work and to ratios above 0.")


def _relative(work: Floats, base: Floats) -> Floats:
    """Return (n, F + 1): a constant, then the work (n, F) as a share of the base's; parts without work are always 0."""
    share = np.divide(work, base, out=np.zeros_like(work), where=base > 0)
    return np.concatenate([np.ones((len(work), 1)), share], axis=1)


def _with_base(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Append the base, which is known exactly and therefore weighted as several candidates."""
    return np.concatenate([x, np.ones((_BASE_COUNTS, x.shape[1]))]), np.concatenate([y, np.ones(_BASE_COUNTS)])


def _ridge(x: Floats, y: Floats, prior: Floats, strength: float) -> tuple[Floats, Floats]:
    """Fit non-negative coefficients shrunk towards the prior; return them with their covariance over residual variance.

    Rows are divided by y, so that errors are relative. A coefficient may deviate from its prior by about the prior's
    own size; `strength` times n is the weight of the prior.
    """
    x, y = _with_base(x, y)
    rows = x / y[:, None]
    scale = np.maximum(prior, _LEAST_SCALE * prior.mean())
    pull = np.diag(np.sqrt(strength * len(y)) / scale)
    left = np.concatenate([rows, pull])
    right = np.concatenate([np.ones(len(y)), pull @ prior])
    coefficients, _ = nnls(left, right)
    return np.asarray(coefficients), np.asarray(np.linalg.inv(left.T @ left))


def _cross_validated(x: Floats, y: Floats, prior: Floats, strength: float) -> float:
    """Return the standard deviation of predicted / measured - 1 on held-out candidates."""
    fold = np.arange(len(y)) % min(FOLDS, len(y))
    errors = np.zeros(len(y))
    for number in range(fold.max() + 1):
        out = fold == number
        coefficients, _ = _ridge(x[~out], y[~out], prior, strength)
        errors[out] = x[out] @ coefficients / y[out] - 1
    return float(np.sqrt(np.mean(errors**2)))
