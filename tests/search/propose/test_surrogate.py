"""The surrogate: finds which stages recover, its samples spread while little is known."""

from __future__ import annotations

import numpy as np
import pytest

from search.propose.surrogate import START, fit_surrogate

TRUE = np.array([0.5, 4.0, 1.0])


def told(count: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    prices = random.uniform(0, 0.3, (count, 3))
    return prices, np.exp(-prices @ TRUE + noise * random.standard_normal(count))


def test_without_trials_every_price_counts_alike() -> None:
    surrogate = fit_surrogate(np.zeros((0, 3)), [])
    assert surrogate.coefficients == pytest.approx([START] * 3)


def test_with_trials_it_finds_what_recovers() -> None:
    surrogate = fit_surrogate(*told(60))
    assert surrogate.coefficients == pytest.approx(TRUE, abs=0.8)
    prices, shares = told(60)
    assert surrogate.share(prices) == pytest.approx(shares, abs=0.08)


def test_samples_spread_and_narrow_with_trials() -> None:
    def spread(count: int) -> float:
        random = np.random.default_rng(0)
        found = [fit_surrogate(*told(count, 0.1), random).coefficients for _ in range(30)]
        return float(np.std(found, axis=0).mean())

    assert spread(8) > 1.3 * spread(80) > 0


def test_a_destroyed_network_is_not_infinitely_bad() -> None:
    assert np.isfinite(fit_surrogate([[0.5, 0.5, 0.5]], [0.0]).coefficients).all()


def test_a_collapse_where_half_was_expected_is_learned_at_once() -> None:
    """Seven rungs fall gently; the eighth, a little further down, has lost everything."""
    prices = np.linspace(0.005, 0.2, 7)[:, None] * np.ones(3) / 3
    shares = 1 - 2.2 * prices.sum(axis=1)
    further = np.full((1, 3), 0.45 / 3)
    before = fit_surrogate(prices, shares).share(further)[0]
    after = fit_surrogate(np.concatenate([prices, further]), [*shares, 0.0]).share(further)[0]
    assert before > 0.3
    assert after < 0.75 * before


def test_how_steeply_accuracy_falls_is_learned() -> None:
    """A tenth of the price of half the network costs far more than a tenth of the accuracy."""
    random = np.random.default_rng(0)
    prices = random.uniform(0, 0.3, (40, 3))
    steep = fit_surrogate(prices, np.exp(-((prices @ TRUE) ** 0.5)))
    assert steep.power == 0.5
    assert fit_surrogate(*told(40)).power == 1.0
