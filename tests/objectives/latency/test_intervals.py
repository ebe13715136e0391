"""Intervals of a median."""

from __future__ import annotations

import numpy as np

from objectives.latency.intervals import clustered_interval, median_interval


def test_median_interval_against_tabulated_ranks() -> None:
    """Ranks of the 95 % interval of a median, e.g. Conover 1999, table A3: n=9 gives 2 and 8, n=20 gives 6
    and 15."""
    for n, low, high in ((6, 1, 6), (9, 2, 8), (20, 6, 15), (100, 40, 61)):
        estimate = median_interval([float(x) for x in range(n, 0, -1)])
        assert (estimate.low, estimate.high) == (low, high)
        assert estimate.value == (n + 1) / 2


def test_few_samples_know_little() -> None:
    one = median_interval([0.8])
    assert (one.low, one.value, one.high) == (0.4, 0.8, 1.6) and not one.is_exact
    rng = np.random.default_rng(0)
    for count in range(2, 6):
        found = [median_interval(rng.normal(1, 0.02, count).tolist()) for _ in range(500)]
        assert np.mean([estimate.low <= 1 <= estimate.high for estimate in found]) >= 0.94
        assert all(estimate.low >= 0 for estimate in found)


def test_one_cluster_is_the_plain_interval() -> None:
    samples = [1.0, 1.2, 0.9, 1.1, 1.05, 0.95, 1.3]
    assert clustered_interval([samples]) == median_interval(samples)
    assert clustered_interval([samples[:4], []]) == median_interval(samples[:4])


def test_what_clusters_share_is_covered() -> None:
    """Openings differ by 1 %, rounds by 0.3 %: the interval over rounds misses the truth, that over openings holds
    it."""
    rng = np.random.default_rng(0)
    plain, clustered = [], []
    for _ in range(400):
        shifts = rng.normal(1, 0.01, 6)
        clusters = [list(rng.normal(shift, 0.003, 10)) for shift in shifts]
        for estimate, hits in (
            (median_interval([x for c in clusters for x in c]), plain),
            (clustered_interval(clusters), clustered),
        ):
            hits.append(estimate.low <= 1 <= estimate.high)
    assert np.mean(clustered) >= 0.93
    assert np.mean(plain) < 0.75, "else this test cannot tell them apart"
