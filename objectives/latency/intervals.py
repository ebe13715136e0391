"""95 % intervals of a median of positive samples, without assuming a distribution where there are enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from objectives.objective import Estimate

SMALLEST_SAMPLE = 6
"""Below six samples no pair of order statistics encloses the median with 95 %."""
MEDIAN_LOSS = math.sqrt(math.pi / 2)
"""Standard error of a median over that of a mean, of normal samples (Cramer 1946, section 28.5)."""


def median_interval(samples: Sequence[float]) -> Estimate:
    """Return the median and its 95 % interval between two order statistics.

    With n samples the interval from the k-th smallest to the k-th largest encloses the median with the probability 1 -
    2 P(Binomial(n, 1/2) < k) (David and Nagaraja 2003, "Order Statistics", equation 7.1.1); k is the largest for which
    that is at least 95 %. Below six samples not even the range reaches that: then it is the wider of the range and
    Student's t, and for a single sample, whose error is unknown, from half of it to twice of it.
    """
    from scipy import special  # half a second of imports that a refused command need not wait for

    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n, middle = len(ordered), float(np.median(ordered))
    if n == 1:
        return Estimate(middle, middle / 2, middle * 2)
    k = max(1, math.ceil(special.bdtrik(0.025, n, 0.5)))
    low, high = float(ordered[k - 1]), float(ordered[n - k])
    if n >= SMALLEST_SAMPLE:
        return Estimate(middle, low, high)
    margin = _t95(n - 1) * MEDIAN_LOSS * float(np.std(ordered, ddof=1)) / math.sqrt(n)
    return Estimate(middle, min(low, max(0.0, middle - margin)), max(high, middle + margin))


def clustered_interval(clusters: Sequence[Sequence[float]]) -> Estimate:
    """Return the median of all samples, with an interval that includes the variance between clusters.

    Samples of one cluster share an effect that is drawn anew for the next one, so there are only as many independent
    samples as clusters: half the interval is t * MEDIAN_LOSS * sd(medians of the clusters) / sqrt(number of clusters),
    and neither end lies inside that of `median_interval` over all samples. One cluster is `median_interval`. (The mean
    of the clusters' medians would need no MEDIAN_LOSS, but on a loaded machine it varied twice as much.)
    """
    pooled = median_interval([sample for cluster in clusters for sample in cluster])
    medians = [float(np.median(cluster)) for cluster in clusters if len(cluster)]
    if len(medians) < 2:
        return pooled
    error = MEDIAN_LOSS * float(np.std(medians, ddof=1)) / math.sqrt(len(medians))
    margin = _t95(len(medians) - 1) * error
    low = min(pooled.low, max(0.0, pooled.value - margin))
    return Estimate(pooled.value, low, max(pooled.high, pooled.value + margin))


def mean_interval(samples: Sequence[float]) -> Estimate:
    """Return the mean and its 95 % interval (Student's t); a single sample, whose error is unknown, without one."""
    mean, count = float(np.mean(samples)), len(samples)
    margin = _t95(count - 1) * float(np.std(samples, ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    return Estimate(mean, mean - margin, mean + margin)


def _t95(freedom: int) -> float:
    """Return the half-width of the central 95 % of Student's t."""
    from scipy import special

    return float(special.stdtrit(freedom, 0.975))
