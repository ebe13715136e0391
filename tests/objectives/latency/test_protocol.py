from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from objectives import LatencyError
from objectives.latency.intervals import SMALLEST_SAMPLE
from objectives.latency.measuring_lock import measuring_lock
from objectives.latency.protocol import FLAGS, MOST_RATIOS, Latency, compare, compare_many, runqueue_wait_s
from tests.objectives.fakes import FakeRunner, SimulatedClock


def simulated(ratio: float, seed: int, *, seconds: float = 0.004, cap_s: float = 6.0, **nature: object) -> Latency:
    clock = SimulatedClock()
    reference = FakeRunner(clock, seconds, seed=2 * seed, **nature)  # type: ignore[arg-type]
    candidate = FakeRunner(clock, seconds * ratio, seed=2 * seed + 1, **nature)  # type: ignore[arg-type]
    return compare(candidate, reference, clock=clock, seed=seed, cap_s=cap_s)


@pytest.mark.parametrize("ratio", [1.0, 0.97, 0.5, 1.6])
def test_the_known_ratio_is_inside_the_interval(ratio: float) -> None:
    results = [simulated(ratio, seed) for seed in range(60)]
    covered = [r.ratio.low <= ratio <= r.ratio.high for r in results]
    assert np.mean(covered) >= 0.9
    assert np.mean([r.ratio.value for r in results]) == pytest.approx(ratio, rel=0.002)
    assert not any(r.flags for r in results)
    assert all(r.ratio.high - r.ratio.low <= 0.02 * r.ratio.value for r in results)


def test_the_scatter_of_single_rounds_is_kept_and_small() -> None:
    result = simulated(0.9, 0, noise=0.02)
    assert SMALLEST_SAMPLE <= len(result.ratios) <= min(result.rounds, MOST_RATIOS)
    assert min(result.ratios) < result.ratio.value < max(result.ratios)


def test_outliers_do_not_move_the_ratio() -> None:
    results = [simulated(0.9, seed, noise=0.02, spikes=0.15) for seed in range(40)]
    assert np.mean([r.ratio.low <= 0.9 <= r.ratio.high for r in results]) >= 0.85
    assert np.mean([r.ratio.value for r in results]) == pytest.approx(0.9, rel=0.003)
    assert np.mean([r.p90_ms > 1.05 * r.p50_ms for r in results]) > 0.8


def test_drift_is_flagged_and_cancels() -> None:
    results = [simulated(0.9, seed, noise=0.03, weather=lambda t: 1 + 0.3 * t) for seed in range(20)]
    assert all("drift" in r.flags for r in results)
    assert np.mean([r.ratio.low <= 0.9 <= r.ratio.high for r in results]) >= 0.85


def test_throttling_is_told_from_speeding_up() -> None:
    slower = simulated(0.9, 0, noise=0.03, weather=lambda t: 1.0 if t < 0.5 else 1.4)
    faster = simulated(0.9, 0, noise=0.03, weather=lambda t: 1.4 if t < 0.5 else 1.0)
    assert {"drift", "throttling"} <= set(slower.flags)
    assert "drift" in faster.flags and "throttling" not in faster.flags


def test_the_cap_stops_and_says_so() -> None:
    result = simulated(0.9, 0, noise=0.3, cap_s=1.0)
    assert "not_settled" in result.flags and result.seconds < 1.3
    assert result.ratio.low <= 0.9 <= result.ratio.high


def test_one_round_is_measured_whatever_the_cap() -> None:
    result = simulated(0.9, 0, seconds=2.0, cap_s=1.0)
    assert result.rounds == 1 and {"few_rounds", "not_settled"} <= set(result.flags)
    assert not result.ratio.is_exact, "one round says nothing about its error"


def test_foreign_load_is_flagged_on_evidence(clock: SimulatedClock) -> None:
    runners = [FakeRunner(clock, 0.004, seed=s) for s in (1, 2)]
    quiet = compare(*runners, clock=clock, waiting=lambda: 0.01 * clock.now)
    loaded = compare(*runners, clock=clock, waiting=lambda: 0.4 * clock.now)
    assert "foreign_load" not in quiet.flags and "foreign_load" in loaded.flags


def test_several_candidates_share_rounds_and_keep_their_order(clock: SimulatedClock) -> None:
    ratios = [1.0, 0.95, 0.9, 0.4]
    candidates = [FakeRunner(clock, 0.004 * r, seed=k + 1) for k, r in enumerate(ratios)]
    results = compare_many(candidates, FakeRunner(clock, 0.004), clock=clock)
    assert [r.ratio.value for r in results] == pytest.approx(ratios, rel=0.02)
    assert len({r.seconds for r in results}) == 1


def test_a_settled_candidate_leaves(clock: SimulatedClock) -> None:
    calm, restless = (
        FakeRunner(clock, 0.004, noise=0.001, seed=1),
        FakeRunner(clock, 0.004, noise=0.4, seed=2),
    )
    first, second = compare_many([calm, restless], FakeRunner(clock, 0.004, noise=0.001), clock=clock)
    assert first.rounds == 9 < second.rounds
    assert calm.runs < restless.runs


def test_the_seed_repeats_a_measurement() -> None:
    assert simulated(0.9, 5) == simulated(0.9, 5)


def test_milliseconds_are_those_of_the_runner_and_scale_to_a_base() -> None:
    result = simulated(0.5, 0)
    assert result.p50_ms == pytest.approx(2.0, rel=0.02) and result.reference_ms == pytest.approx(4.0, rel=0.02)
    assert result.in_ms().value == pytest.approx(2.0, rel=0.02)
    assert result.in_ms(10.0).value == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize("seconds", [0.0005, 0.004, 0.05])
def test_a_block_is_long_enough_for_any_model(clock: SimulatedClock, seconds: float) -> None:
    candidate = FakeRunner(clock, seconds, seed=1)
    result = compare(candidate, FakeRunner(clock, seconds), clock=clock)
    per_block = (candidate.runs - 5) / result.rounds
    assert per_block == int(per_block) >= 2
    assert per_block * seconds >= 0.0075


def test_openings_that_differ_are_averaged_and_widen_the_interval() -> None:
    """Each opening of an artefact is faster or slower by 1 % as long as it is open."""

    def measured(openings: int, seed: int) -> Latency:
        clock, random = SimulatedClock(), np.random.default_rng(seed)
        sides = [
            [
                FakeRunner(clock, 0.004 * random.normal(1, 0.01), 0.003, seed=99 * seed + k + 9 * s)
                for k in range(openings)
            ]
            for s in range(2)
        ]
        return compare(sides[0], sides[1], clock=clock, seed=seed)

    single, several = ([measured(count, seed) for seed in range(60)] for count in (1, 6))
    assert np.mean([r.ratio.low <= 1 <= r.ratio.high for r in single]) < 0.5, "else there is nothing to repair"
    assert np.mean([r.ratio.low <= 1 <= r.ratio.high for r in several]) >= 0.93
    spread = [float(np.std([r.ratio.value for r in results])) for results in (single, several)]
    assert spread[1] < 0.6 * spread[0]


def test_every_opening_takes_part(clock: SimulatedClock) -> None:
    candidate, reference = ([FakeRunner(clock, 0.004, seed=k + s) for k in range(6)] for s in (0, 10))
    assert compare(candidate, reference, clock=clock).rounds >= 12
    runs = [runner.runs for runner in (*candidate[1:], *reference[1:])]
    assert min(runs) > 5 and max(runs[:5]) - min(runs[:5]) <= max(runs) / 2


def test_who_settles_leaves_after_a_whole_turn(clock: SimulatedClock) -> None:
    calm, restless, reference = (
        [FakeRunner(clock, 0.004, noise=noise, seed=9 * s + k) for k in range(5)]
        for s, noise in enumerate((0.01, 0.06, 0.01))
    )
    found = compare_many([calm, restless], reference, clock=clock, half_width=0.01, whole_turns=True)
    assert [one.rounds % 5 for one in found] == [0, 0] and found[0].rounds < found[1].rounds


def test_the_caller_is_told_how_much_of_the_cap_is_used(clock: SimulatedClock) -> None:
    told: list[float] = []
    side = FakeRunner(clock, 0.004, noise=0.3, seed=1)
    compare_many([side], FakeRunner(clock, 0.004), clock=clock, cap_s=1.0, watch=told.append)
    assert told == sorted(told) and 0 < told[0] < told[-1] == 1.0


def test_bad_arguments_are_named(clock: SimulatedClock) -> None:
    runner = FakeRunner(clock, 0.004)
    with pytest.raises(LatencyError, match="at least one candidate"):
        compare_many([], runner, clock=clock)
    with pytest.raises(LatencyError, match="min_rounds=2"):
        compare(runner, runner, clock=clock, min_rounds=2)
    with pytest.raises(LatencyError, match="half_width=0"):
        compare(runner, runner, clock=clock, half_width=0)


def test_a_clock_that_stands_still_is_an_error() -> None:
    runner = FakeRunner(SimulatedClock(), 0.004)
    with pytest.raises(LatencyError, match="no time at all"):
        compare(runner, runner, clock=lambda: 1.0)


def test_garbage_collection_is_off_only_while_measuring(clock: SimulatedClock) -> None:
    seen = []

    class Watching(FakeRunner):
        def run(self) -> None:
            seen.append(gc.isenabled())
            super().run()

    compare(Watching(clock, 0.004, seed=1), FakeRunner(clock, 0.004), clock=clock)
    assert not any(seen) and gc.isenabled()


def test_every_flag_is_explained() -> None:
    assert {"not_settled", "few_rounds", "drift", "throttling", "foreign_load", "noisy"} == set(FLAGS)


def test_run_queue_wait_never_falls() -> None:
    assert 0 <= runqueue_wait_s() <= runqueue_wait_s()


def test_only_one_process_measures(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "measuring.lock"
    tries = (
        "import sys\nfrom objectives import LatencyError\n"
        "from objectives.latency.measuring_lock import measuring_lock\n"
        "try:\n    with measuring_lock(sys.argv[1], timeout_s=0.1): print('got it')\n"
        "except LatencyError as fault: print(fault)\n"
    )

    def other() -> str:
        done = subprocess.run([sys.executable, "-c", tries, str(lock)], capture_output=True, text=True, check=True)
        return done.stdout

    with measuring_lock(lock):
        assert f"id {os.getpid()}" in other()
    assert other() == "got it\n"


def test_a_lock_is_freed_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), measuring_lock(tmp_path / "lock"):
        raise RuntimeError
    with measuring_lock(tmp_path / "lock", timeout_s=0):
        pass
