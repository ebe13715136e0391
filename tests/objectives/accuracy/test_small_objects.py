from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from objectives.accuracy.bootstrap import ImageStats, resampled_figures, resampled_map
from objectives.accuracy.small_objects import SMALL_AREA, match_small
from tests.objectives.accuracy.test_bootstrap import images

THRESHOLDS = np.linspace(0.5, 0.95, 10)
TINY, LARGE = 100.0, 5000.0


def matched(iou: list[list[float]], areas: list[float], label_areas: list[float]) -> tuple[list[bool], list[bool]]:
    """True positives and ignored detections at IoU 0.5; `iou` has a row per label."""
    table = np.array(iou).reshape(len(label_areas), len(areas))
    found = match_small(table, THRESHOLDS, np.array(areas), np.array(label_areas))
    return found.tp[:, 0].tolist(), found.ignored[:, 0].tolist()


def test_a_detection_of_a_small_label_is_right_whatever_its_own_size() -> None:
    assert matched([[0.8, 0.6]], [LARGE, TINY], [TINY]) == ([True, False], [False, False])


def test_a_detection_of_a_larger_label_does_not_count() -> None:
    assert matched([[0.8]], [TINY], [LARGE]) == ([False], [True])


def test_a_detection_of_nothing_counts_as_wrong_only_if_it_is_small() -> None:
    assert matched([], [TINY, LARGE], []) == ([False, False], [False, True])
    assert matched([[0.0, 0.1]], [TINY, SMALL_AREA], [TINY]) == ([False, False], [False, True])


def test_a_small_label_is_preferred_to_a_larger_one_that_overlaps_more() -> None:
    assert matched([[0.6], [0.9]], [TINY], [TINY, LARGE]) == ([True], [False])


def test_a_larger_label_is_taken_once() -> None:
    assert matched([[0.9, 0.8]], [TINY, TINY], [LARGE]) == ([False, False], [True, False])


def test_the_limit_itself_is_not_small() -> None:
    assert matched([[0.9]], [TINY], [SMALL_AREA]) == ([False], [True])
    assert matched([[0.9]], [TINY], [np.nextafter(SMALL_AREA, 0)]) == ([True], [False])


@given(st.integers(0, 6), st.integers(0, 8), st.integers(0, 10**6))
def test_among_small_labels_matches_are_ultralytics_own(labels: int, detections: int, seed: int) -> None:
    import torch
    from ultralytics.engine.validator import BaseValidator

    random = np.random.default_rng(seed)
    iou = random.random((labels, detections))
    judge: Any = BaseValidator.__new__(BaseValidator)
    judge.iouv = torch.from_numpy(THRESHOLDS)
    same = torch.zeros(detections), torch.zeros(labels), torch.from_numpy(iou)
    theirs = judge.match_predictions(*same).numpy() if labels and detections else np.zeros((detections, 10), bool)
    ours = match_small(iou, THRESHOLDS, np.full(detections, TINY), np.full(labels, TINY))
    assert (ours.tp == theirs).all() and not ours.ignored.any()


@given(st.integers(1, 8), st.integers(0, 15), st.integers(0, 10**6))
def test_an_ignored_detection_might_as_well_not_be_there(count: int, detections: int, seed: int) -> None:
    tp, conf, pred, target = images(count, detections, 2, seed)
    dropped = [np.random.default_rng([seed, i]).random(len(c)) < 0.4 for i, c in enumerate(conf)]
    tp = [t & ~d[:, None] for t, d in zip(tp, dropped, strict=True)]
    ignored = [np.repeat(d[:, None], 10, axis=1) for d in dropped]
    without = [[c[~d] for c, d in zip(column, dropped, strict=True)] for column in (tp, conf, pred)]
    weights = np.ones((1, count))
    found = resampled_map(ImageStats.collect(tp, conf, pred, target, ignored), weights)
    assert np.allclose(found, resampled_map(ImageStats.collect(*without, target), weights))


@given(st.integers(2, 8), st.integers(0, 15), st.integers(0, 10**6))
def test_the_mean_of_the_classes_is_the_figure(count: int, detections: int, seed: int) -> None:
    stats = ImageStats.collect(*images(count, detections, 3, seed))
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=5).astype(float)
    weights[:, 0] += 1  # image 0 has a label
    drawn = resampled_figures(stats, weights)
    assert np.allclose(np.nanmean(drawn.per_class, axis=1), drawn.map50_95)
    assert np.allclose(resampled_map(stats, weights), drawn.map50_95)
