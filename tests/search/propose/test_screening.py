"""The screening: open while little is known or the score says little, closed for what cannot reach the front."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.propose.screening import FEWEST, AccuracyGoal, correlation, expected_share, screening_limit
from search.trial import ScreeningLimit

TELLING = tuple((d, 1.0 - d) for d in np.linspace(0.02, 0.9, 12).tolist())
FRONT = ((0.3, 0.4), (0.5, 0.8), (0.8, 0.95))


def test_nothing_is_held_back_before_enough_is_known() -> None:
    assert screening_limit(TELLING[: FEWEST - 1], FRONT, 0.5) is None


def test_a_score_that_says_nothing_opens_the_gate() -> None:
    random = np.random.default_rng(0)
    silent = tuple(zip(random.uniform(size=30).tolist(), random.uniform(size=30).tolist(), strict=True))
    assert abs(correlation(silent) or 0) < 0.4
    assert screening_limit(silent, FRONT, 0.5) is None


def test_the_gate_asks_for_the_front_at_that_cost() -> None:
    cheap, dear = screening_limit(TELLING, FRONT, 0.35), screening_limit(TELLING, FRONT, 0.9)
    assert cheap is not None and dear is not None and dear.limit < cheap.limit
    assert cheap.admits(0.5) and not dear.admits(0.5)
    assert dear.admits(0.02)


def test_below_the_whole_front_everything_is_admitted() -> None:
    screening = screening_limit(TELLING, FRONT, 0.1)
    assert screening is not None and screening.admits(0.9)


def test_a_weaker_score_means_a_wider_gate() -> None:
    random = np.random.default_rng(1)
    noisy = tuple((d, s + 0.15 * float(random.standard_normal())) for d, s in TELLING)
    sharp, wide = screening_limit(TELLING, FRONT, 0.6), screening_limit(noisy, FRONT, 0.6)
    assert sharp is not None and (wide is None or wide.limit > sharp.limit)


@given(st.floats(0, 2), st.floats(0, 2))
def test_more_divergence_never_promises_more(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert expected_share(TELLING, low) >= expected_share(TELLING, high)


def test_a_gate_admits_its_limit() -> None:
    assert ScreeningLimit(0.3).admits(0.3) and not ScreeningLimit(0.3).admits(0.31)


def test_what_misses_the_front_by_less_than_the_noise_passes() -> None:
    """Ten trials that lost nothing, one by chance a little better: their like are not held back."""
    level = tuple((d, 0.98 + 0.004 * (n % 3)) for n, d in enumerate(np.linspace(0.001, 0.02, 10).tolist()))
    screening = screening_limit((*level, *TELLING), ((0.5, 0.99),), 0.6)
    assert screening is not None and screening.admits(0.01) and not screening.admits(0.2)


def test_a_gate_that_nothing_passes_opens_by_itself() -> None:
    limits = [screening_limit(TELLING, FRONT, 0.9, held_back) for held_back in (0, 5, 20)]
    first, later, last = (screening.limit for screening in limits if screening is not None)
    assert first < later < last


def test_an_error_is_what_it_has_not_grown_by() -> None:
    error, accuracy = AccuracyGoal("mae", 10.0, is_error=True), AccuracyGoal("map50_95", 0.6)
    assert [error.share(value) for value in (10.0, 11.0, 8.0, 40.0)] == pytest.approx([1.0, 0.9, 1.2, 0.0])
    assert accuracy.share(0.3) == 0.5


@given(st.floats(0.1, 1e3), st.floats(0.0, 1.5), st.booleans())
def test_a_value_is_its_share_of_the_base(base: float, share: float, is_error: bool) -> None:
    gain = AccuracyGoal("figure", base, is_error)
    assert np.isclose(gain.share(gain.value(share)), share)
