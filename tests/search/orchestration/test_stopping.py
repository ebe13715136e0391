"""When a search ends: hours and until leave time for the last steps, patience looks at the hypervolume."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.config.spec import load_spec
from search.errors import ConfigError
from search.orchestration.stopping import (
    GROWTH,
    Limits,
    Reason,
    SearchState,
    is_flat,
    next_time,
    reached,
    seconds_left,
    trial_timeout_s,
)
from search.study import Study
from search.testing.known_front import KnownFinalMeasurements, KnownFrontEvaluator
from search.testing.simulated import Cut, SimulatedClock
from search.trial import Candidate, Measurement, Trial, TrialState
from tests.search.conftest import MakeStudy, run

EVENING = datetime(2025, 3, 1, 22, 0)


def _end(study: Study) -> dict[str, str]:
    found: dict[str, str] = study.snapshot()["end"]
    return found


@pytest.mark.parametrize(
    ("text", "now", "then"),
    [
        ("07:00", EVENING, datetime(2025, 3, 2, 7, 0)),
        ("23:30", EVENING, datetime(2025, 3, 1, 23, 30)),
        ("22:00", EVENING, datetime(2025, 3, 2, 22, 0)),
        ("07:00", datetime(2025, 3, 2, 6, 59, 59), datetime(2025, 3, 2, 7, 0)),
        ("07:00", datetime(2025, 12, 31, 8, 0), datetime(2026, 1, 1, 7, 0)),
    ],
)
def test_until_is_the_next_time_that_the_clock_shows_it(text: str, now: datetime, then: datetime) -> None:
    assert next_time(text, now) == then


@given(st.integers(0, 23), st.integers(0, 59), st.datetimes())
def test_until_is_within_a_day(hours: int, minutes: int, now: datetime) -> None:
    if now < datetime.max - timedelta(days=2):
        found = next_time(f"{hours}:{minutes:02d}", now)
        assert timedelta() < found - now <= timedelta(days=1)
        assert (found.hour, found.minute, found.second) == (hours, minutes, 0)


@given(st.floats(0, 7200), st.floats(0, 3000), st.floats(0, 10_000))
def test_no_trial_is_begun_that_would_not_leave_time(spent: float, next_s: float, reserve: float) -> None:
    here = SearchState(0, spent, EVENING, EVENING, next_s, reserve)
    end = reached(Limits(100, hours=1.0), here)
    if end is None:
        assert spent + next_s + min(reserve, 1800) <= 3600 + 1e-6
    else:
        assert end.reason == Reason.HOURS
        assert spent + next_s + min(reserve, 1800) >= 3600 - 1e-6


def test_the_nearer_limit_of_time_counts() -> None:
    limits = Limits(100, hours=3.0, until=datetime(2025, 3, 1, 23, 0))
    assert seconds_left(limits, SearchState(0, 0.0, EVENING, EVENING)) == 3600
    assert seconds_left(limits, SearchState(0, 9000.0, EVENING, EVENING)) == 1800
    assert seconds_left(Limits(5), SearchState(0, 0.0, EVENING, EVENING)) is None


@pytest.mark.parametrize(
    ("seconds", "minutes", "timeout_s"),
    [
        ([60.0, 90.0], None, float("inf")),
        ([60.0, 90.0, 0.0], None, 900.0),
        ([1.0] * 9 + [300.0], None, 3000.0),
        ([1.0, 2.0, 3.0], None, 600.0),
        ([1.0, 2.0, 3.0], 5.0, 300.0),
        ([], 5.0, 300.0),
    ],
)
def test_a_trial_may_take_ten_times_the_longest_that_was_completed(
    seconds: list[float], minutes: float | None, timeout_s: float
) -> None:
    """The median says nothing of a trial that needs its epochs where most need none."""
    done = [Measurement({}, seconds={"recover": one}) for one in seconds]
    trials = [Trial(number, TrialState.COMPLETE, Candidate({}), one) for number, one in enumerate(done)]
    screened = Trial(99, TrialState.SCREENED, Candidate({}), Measurement({}, seconds={"score": 9e9}, screened=True))
    assert trial_timeout_s([*trials, screened], minutes) == timeout_s


def test_flat_is_a_window_not_a_step() -> None:
    def volumes(*values: float) -> list[dict[str, float]]:
        return [{"trial": number, "value": value} for number, value in enumerate(values)]

    still = volumes(1.0, 2.0, 2.0, 2.0, 2.0)
    assert is_flat(still, range(5), 3) and not is_flat(still, range(5), 4)
    assert not is_flat(still, range(5), None) and not is_flat(still, range(5), 5)
    creeping = volumes(*(1 + 0.4 * GROWTH * step for step in range(8)))
    assert not is_flat(creeping, range(8), 6) and is_flat(creeping, range(8), 2)
    # trials that failed or broke a constraint are none that made it grow
    assert is_flat(volumes(1.0, 2.0), range(6), 4)
    assert not is_flat([], range(6), 4)


def test_a_night_is_over_in_the_morning_with_everything_done(make_study: MakeStudy) -> None:
    clock = SimulatedClock(begin=EVENING)
    keys = {"search.trials": 5000, "search.until": "07:00", "search.confirm": 3, "baselines": ["lower_size", "random"]}
    final = KnownFinalMeasurements(trained_s=1800)
    study = make_study(KnownFrontEvaluator(seconds=1800), final=final, clock=clock, **keys).search()
    assert _end(study) == {"reason": "until", "sentence": "deadline 07:00 reached (search.until)"}
    assert datetime(2025, 3, 2, 6, 0) < clock.local() <= datetime(2025, 3, 2, 7, 0)
    assert {row["kind"] for row in study.snapshot()["baselines"]} == {"lower_size", "random"}
    assert max(row["seeds"] for row in study.snapshot()["trials"]) == 3
    assert "deadline 07:00 reached (search.until)" in run("status", str(study.record.path)).stdout


def test_hours_leave_time_for_the_last_steps(make_study: MakeStudy) -> None:
    keys = {"search.trials": 500, "search.hours": 1, "search.confirm": 3}
    clock = SimulatedClock()
    study = make_study(final=KnownFinalMeasurements(), clock=clock, **keys).search()
    assert _end(study)["reason"] == "hours"
    assert clock.seconds <= 3600
    assert 40 < len(study.trials()) < 58


def test_a_resume_before_the_time_keeps_it_and_one_after_it_has_the_next(make_study: MakeStudy) -> None:
    keys = {"search.trials": 5000, "search.until": "07:00"}
    slow = KnownFrontEvaluator(seconds=1800)
    with pytest.raises(Cut):
        make_study(slow, cut_at=6, clock=SimulatedClock(begin=EVENING), **keys).search()
    at_night = SimulatedClock(begin=datetime(2025, 3, 2, 3, 0))
    assert len(make_study(slow, clock=at_night, **keys).search().trials()) == 6 + 8
    assert at_night.local() == datetime(2025, 3, 2, 7, 0)
    at_noon = SimulatedClock(begin=datetime(2025, 3, 2, 12, 0))
    assert len(make_study(slow, clock=at_noon, **keys).search().trials()) == 14 + 38


def test_a_front_that_no_longer_grows_ends_the_search(make_study: MakeStudy) -> None:
    keys = {"search.trials": 60, "search.patience": 6}
    study = make_study(_Still(), **keys).search()
    assert len(study.trials()) == 7  # the first, and six that did not help
    assert _end(study) == {"reason": "flat", "sentence": "the front has not grown for 6 trials"}
    assert len(make_study(_Still(), **keys).search().trials()) == 7
    longer = {**keys, "search.patience": None, "search.trials": 9}
    assert _end(make_study(_Still(), **longer).search())["reason"] == "trials"


class _Still(KnownFrontEvaluator):
    """Whatever is asked for, the same figures come out, under different keys."""

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: object = None
    ) -> Measurement:
        return super().evaluate(Candidate(dict.fromkeys(candidate.ratios, 0.2)), number, seed, work_dir)


def test_a_front_that_grows_goes_on(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 7, "search.patience": 3}).search()
    volumes = [row["value"] for row in study.snapshot()["hypervolume"]]
    assert len(volumes) == 7 and all(after > before for before, after in pairwise(volumes[:5]))


@pytest.mark.parametrize(("text", "found"), [("7:00", "07:00"), ('"07:00"', "07:00"), ("19:30", "19:30")])
def test_times_are_read_as_people_write_them(workplace: Path, text: str, found: str) -> None:
    (workplace / "study.yaml").write_text(f"model: best.pt\ndata: data.yaml\nsearch: {{until: {text}}}\n")
    assert load_spec(workplace / "study.yaml").search.until == found


@pytest.mark.parametrize("text", ["7", "25:00", "soon", "07:60"])
def test_what_is_no_time_of_day_is_refused(workplace: Path, text: str) -> None:
    (workplace / "study.yaml").write_text(f"model: best.pt\ndata: data.yaml\nsearch: {{until: {text}}}\n")
    with pytest.raises(ConfigError, match=r'search.until: .* is no time of day; expected for example "07:00"'):
        load_spec(workplace / "study.yaml")
