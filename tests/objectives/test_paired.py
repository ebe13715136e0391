"""Paired errors: what both models share cancels, and only the ranking's intervals become narrower."""

from __future__ import annotations

import numpy as np
import pytest

from objectives.objective import Estimate
from objectives.paired import paired_difference, paired_errors, ranked_figures

RANDOM = np.random.default_rng(0)
LUCK = RANDOM.normal(0, 0.02, 200)
BASE = {"map50_95": tuple(0.6 + LUCK)}


def test_what_the_images_do_to_both_cancels() -> None:
    model = {"map50_95": tuple(0.55 + LUCK + RANDOM.normal(0, 0.003, 200))}
    assert paired_errors(model, BASE)["map50_95"] == pytest.approx(0.003, rel=0.2)
    assert paired_errors(BASE, BASE)["map50_95"] == 0.0


def test_strangers_are_as_uncertain_as_both_together() -> None:
    stranger = {"map50_95": tuple(0.55 + RANDOM.normal(0, 0.02, 200))}
    assert paired_errors(stranger, BASE)["map50_95"] == pytest.approx(0.028, rel=0.25)


def test_common_resamples_only_and_no_figure_invented() -> None:
    fewer = {"map50_95": tuple(0.5 + LUCK[:50]), "top1": (0.5, 0.6)}
    assert paired_errors(fewer, BASE) == {"map50_95": pytest.approx(0.0, abs=1e-9)}
    assert paired_errors({"map50_95": (0.5,)}, BASE) == {}


def test_other_figures_keep_their_intervals() -> None:
    figures = {"map50_95": Estimate(0.55, 0.51, 0.59), "latency_ms": Estimate(4.0, 3.9, 4.1)}
    ranked = ranked_figures(figures, {"map50_95": 0.003, "top1": 0.1})
    assert ranked["latency_ms"] == figures["latency_ms"] and set(ranked) == set(figures)
    assert ranked["map50_95"].value == 0.55 and ranked["map50_95"].high == pytest.approx(0.55588, abs=1e-4)


def test_a_difference_has_the_error_of_what_does_not_cancel() -> None:
    model = {"map50_95": tuple(0.61 + LUCK + RANDOM.normal(0, 0.003, 200))}
    found = paired_difference("map50_95", model, BASE, 0.01)
    assert found is not None and found.value == 0.01 and found.low > 0
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.003, rel=0.2)
    wider = paired_difference("map50_95", model, BASE, 0.01, more_error=0.01)
    assert wider is not None and wider.high - wider.low == pytest.approx(2 * 1.96 * np.hypot(0.003, 0.01), rel=0.1)
    assert paired_difference("map50_95", model, {}, 0.01) is None
    assert paired_difference("map50", model, BASE, 0.01) is None
