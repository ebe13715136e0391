from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.recovery.rate_schedule import CoolDown, linear_decay

STEPS = 4


def run(figures: list[float], epochs: int, patience: float) -> tuple[list[float], int]:
    """The shares of the rate over a run, step by step, and the number of epochs."""
    schedule, shares, done = CoolDown(patience), [], 0
    while done < epochs:
        shares += [schedule.share(done * STEPS + step, epochs * STEPS) for step in range(STEPS)]
        epochs = schedule.length(figures[min(done, len(figures) - 1)], epochs)
        done += 1
    return shares, done


def test_the_rate_falls_once_the_figure_rests() -> None:
    shares, epochs = run([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4], epochs=100, patience=3)
    assert epochs == 7 + 2, "four better ones, three without, and a quarter of these"
    assert shares[: 7 * STEPS] == [1.0] * (7 * STEPS)
    assert shares[7 * STEPS :] == [linear_decay(step, 2 * STEPS) for step in range(2 * STEPS)]


def test_a_run_that_always_improves_cools_down_within_its_epochs() -> None:
    shares, epochs = run([float(number) for number in range(100)], epochs=50, patience=3)
    assert epochs == 50 and shares[-1] < 0.05 and shares[40 * STEPS - 1] == 1.0


def test_without_patience_the_rate_falls_at_the_end_only() -> None:
    shares, epochs = run([0.5, 0.4], epochs=20, patience=math.inf)
    assert epochs == 20 and shares[15 * STEPS] == 1.0 and shares[-1] < 0.1


@pytest.mark.parametrize(("batches", "accumulated"), [(13, 4), (5, 4), (3, 7)])
def test_steps_that_do_not_divide_an_epoch_never_raise_the_rate(batches: int, accumulated: int) -> None:
    """Ultralytics accumulates across epochs, so an epoch need not have a whole number of steps."""
    schedule, shares, epochs, done, seen = CoolDown(2), [], 40, 0, 0
    while done < epochs:
        for _ in range(batches):
            seen += 1
            if seen % accumulated == 0:
                shares.append(schedule.share(len(shares), epochs * batches // accumulated))
        epochs = schedule.length(min(done, 12) / 12, epochs)
        done += 1
    assert max(shares) == 1.0 and 0 < shares[-1] <= 0.5
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 40), st.integers(1, 12))
def test_every_run_ends_cooled_down_within_its_epochs(figures: list[float], epochs: int, patience: int) -> None:
    shares, done = run(figures, epochs, patience)
    assert 1 <= done <= epochs
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares))
    if epochs > 1:
        assert shares[-1] < 1.0
