from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from objectives.accuracy.bootstrap import ImageStats, resample_weights, resampled_figures

Images = tuple[list[Any], list[Any], list[Any], list[Any]]


def images(count: int, detections: int, classes: int, seed: int, labels: int = 4) -> Images:
    """Per-image tp (d, 10), conf, pred_cls, target_cls as the validator collects them; counts vary by
    image."""
    random = np.random.default_rng(seed)
    tp, conf, pred, target = [], [], [], []
    for _ in range(count):
        d = int(random.integers(0, detections + 1))
        scores = np.sort(random.beta(0.4, 4, d))[::-1]
        quality = (random.random(d) < 2 * scores) * random.integers(0, 11, d)
        tp.append(np.arange(10)[None] < quality[:, None])
        conf.append(scores)
        pred.append(random.integers(0, classes, d).astype(float))
        target.append(random.integers(0, classes, int(random.integers(0, labels + 1))).astype(float))
    target[0] = np.array([0.0])
    return tp, conf, pred, target


def by_ultralytics(data: Images, chosen: Any) -> tuple[float, float, float, float]:
    from ultralytics.utils.metrics import ap_per_class

    _, _, p, r, _, ap, *_ = ap_per_class(*(np.concatenate([column[i] for i in chosen]) for column in data))
    return float(ap.mean()), float(ap[:, 0].mean()), float(p.mean()), float(r.mean())


def ours(data: Images, weights: Any) -> tuple[float, float, float, float]:
    drawn = resampled_figures(ImageStats.collect(*data), np.asarray(weights, dtype=float)[None])
    return float(drawn.map50_95[0]), float(drawn.map50[0]), float(drawn.precision[0]), float(drawn.recall[0])


@given(st.integers(1, 12), st.integers(0, 25), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_equal_weights_give_ultralytics_own_figures(count: int, detections: int, classes: int, seed: int) -> None:
    data = images(count, detections, classes, seed)
    assert ours(data, np.ones(count)) == pytest.approx(by_ultralytics(data, range(count)), abs=1e-9)


@given(st.integers(2, 10), st.integers(1, 25), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_weights_give_the_average_precision_of_repeated_images(n: int, d: int, k: int, seed: int) -> None:
    data = images(n, d, k, seed)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n))
    weights[0] += 1  # image 0 has a label
    repeated = np.repeat(np.arange(n), weights)
    assert ours(data, weights)[:2] == pytest.approx(by_ultralytics(data, repeated)[:2], abs=1e-9)


def test_weights_are_draws_of_all_images_and_repeat_with_the_seed() -> None:
    weights = resample_weights(30, 100, resamples=50, seed=3)
    assert weights.shape == (50, 30) and (weights.sum(axis=1) == 30).all()
    assert (weights == resample_weights(30, 100, resamples=50, seed=3)).all()


def test_large_splits_get_fewer_resamples_but_enough() -> None:
    assert len(resample_weights(10, 10**6, resamples=100, seed=0)) == 40
    assert len(resample_weights(10, 10**9, resamples=100, seed=0)) == 20


def test_standard_error_falls_with_the_square_root_of_the_images() -> None:
    spread = []
    for count in (40, 640):
        stats = ImageStats.collect(*images(count, 20, 2, seed=1))
        weights = resample_weights(count, stats.cells, resamples=200, seed=0)
        spread.append(resampled_figures(stats, weights).map50_95.std())
    assert 2.5 < spread[0] / spread[1] < 6.5


def test_more_images_are_no_more_calls() -> None:
    """Nothing loops over images, which is why three hundred of them take about half a second."""

    def calls(count: int) -> int:
        stats = ImageStats.collect(*images(count, 300, 10, seed=0))
        weights = resample_weights(count, stats.cells, resamples=20, seed=0)
        seen = 0

        def hear(frame: object, event: str, argument: object) -> None:
            nonlocal seen
            seen += event in ("call", "c_call")

        sys.setprofile(hear)
        try:
            resampled_figures(stats, weights)
        finally:
            sys.setprofile(None)
        return seen

    calls(100)  # what is imported or remembered once
    assert calls(400) == calls(100) > 1000
