"""The latency model: finds the true coefficients, never a negative one, carries its error, and says when it does not
know."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.errors import ObjectiveError
from objectives.latency.model import FEWEST, LatencyModel

NAMES = ("macs of a", "macs of b", "channels of a", "channels of b")
BASE = np.array([100.0, 300.0, 16.0, 32.0])
TRUE = np.array([0.1, 0.3, 0.5, 0.06, 0.04])
SHARES = np.array([0.2, 0.6, 0.1, 0.1])


def sample(count: int, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    kept = random.uniform(0.2, 1.0, (count, 2))
    work = np.concatenate([kept**2, kept], axis=1) * BASE
    ratios = (TRUE[0] + work / BASE @ TRUE[1:]) * np.exp(noise * random.standard_normal(count))
    return work, ratios


def fitted(count: int, noise: float = 0.0, seed: int = 0) -> LatencyModel:
    return LatencyModel.fit(NAMES, BASE, *sample(count, noise, seed), SHARES)


def test_exact_figures_are_predicted_exactly() -> None:
    work, ratios = sample(20, seed=1)
    assert fitted(40).predict(work) == pytest.approx(ratios, rel=0.01)


def test_the_cross_validated_error_is_the_error_on_new_candidates() -> None:
    model = fitted(60, noise=0.05)
    work, ratios = sample(400, noise=0.05, seed=2)
    seen = float(np.std(model.predict(work) / ratios - 1))
    assert model.residual == pytest.approx(seen, rel=0.35)
    inside = [
        estimate.low <= ratio <= estimate.high
        for estimate, ratio in zip(map(model.estimate, work), ratios, strict=True)
    ]
    assert np.mean(inside) > 0.88


def test_few_candidates_lean_on_what_was_expected() -> None:
    """Ten noisy candidates cannot tell four features apart; the prior keeps the prediction near the truth."""
    work, ratios = sample(200, seed=3)
    assert float(np.std(fitted(10, noise=0.03).predict(work) / ratios - 1)) < 0.06


def test_it_does_not_know_what_is_far_from_all_it_saw() -> None:
    model = fitted(40, noise=0.02)
    assert model.knows(BASE * 0.5)
    assert not model.knows(BASE * np.array([0.0, 12.0, 0.0, 30.0]))
    assert not fitted(40, noise=0.3).knows(BASE * 0.5)


@given(st.integers(0, 50), st.floats(0.0, 0.3))
def test_more_work_never_takes_less_time(seed: int, noise: float) -> None:
    model = fitted(16, noise, seed)
    assert (model.coefficients >= 0).all()
    assert model.predict([BASE * 0.5])[0] <= model.predict([BASE * 0.6])[0]


def test_json_both_ways() -> None:
    model = fitted(20, 0.02)
    again = LatencyModel.from_json(json.loads(json.dumps(model.to_json())))
    assert again.predict([BASE * 0.7]) == pytest.approx(model.predict([BASE * 0.7]), abs=0)
    assert again.estimate(BASE * 0.7) == model.estimate(BASE * 0.7)


def test_too_few_and_impossible_figures_are_refused() -> None:
    with pytest.raises(ObjectiveError, match=f"at least {FEWEST}"):
        fitted(FEWEST - 1)
    work, ratios = sample(12)
    with pytest.raises(ObjectiveError, match="finite"):
        LatencyModel.fit(NAMES, BASE, work, np.where(np.arange(12) == 3, np.nan, ratios), SHARES)
    with pytest.raises(ObjectiveError, match="Shapes"):
        LatencyModel.fit(NAMES[:2], BASE, work, ratios, SHARES)
