"""Latency measurement that orders two close variants correctly on a machine under load.

The protocol. Latency is always measured relative to, and interleaved with, a reference. A *round* visits every
candidate once in random order and puts a block of the reference before and after each: R a R c R b R. A
*block* is a few inferences, timed one by one, of which the fastest counts: disturbances only add time.
One round yields one ratio per candidate,

    ratio = min(block of candidate) / sqrt(min(block before) * min(block after)),

in which drift of the clock frequency, slow against a round, cancels to first order. All blocks have the same
number of inferences, so that the expected minimum of a candidate equal to the reference is that of the
reference. The result is the median of the ratios over the rounds, with a 95 % interval that assumes no
distribution (`intervals`). A candidate leaves when its interval is within `half_width` of the median; all
leave at the time cap.

The same file opened twice is not equally fast: the memory placement of weights and buffers changes the latency of a
small model by up to 2 %, as long as it is open. So a *side* may be several runners of one artefact
(`runtimes.open.open_side`), which alternate by round; the interval then counts openings, not rounds, as independent.

Disturbed measurements are flagged (`quality_flags.FLAGS`). The computing threads are pinned to the processors that are
least busy at the start (`cpu_pinning`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from objectives.errors import LatencyError
from objectives.latency.intervals import SMALLEST_SAMPLE, clustered_interval, median_interval
from objectives.latency.measuring_lock import measuring_lock
from objectives.latency.quality_flags import (
    FLAGS,
    FOREIGN_LOAD,
    drift_flags,
    no_garbage_collection,
    noise_flags,
    runqueue_wait_s,
)
from objectives.objective import Estimate
from objectives.runtimes.runner import Floats, Runner, SelfTimed

__all__ = ["FLAGS", "Latency", "compare", "compare_many", "measuring_lock", "median_interval", "runqueue_wait_s"]

Clock = Callable[[], float]
"""Seconds, from any origin, never backwards."""
Side = Runner | Sequence[Runner]
"""One artefact: one runner of it, or several, each opened anew."""
BLOCK_S = 0.008
"""A block lasts at least this long, well above timer and scheduler granularity."""
MAX_RUNS_PER_BLOCK = 200
FEWEST_RUNS = 2
"""The first inference after another model ran finds cold caches; the minimum of two does not."""
MOST_RATIOS = 40


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of one candidate relative to the reference. Times are per inference (whole batch) in milliseconds."""

    ratio: Estimate
    """Candidate time over reference time: 0.8 is a fifth faster."""
    p50_ms: float
    p90_ms: float
    reference_ms: float
    """Median inference of the reference in the same rounds."""
    reference_p90_ms: float
    rounds: int
    seconds: float
    """What the whole measurement took, warm-up included; shared by all candidates of one call."""
    flags: tuple[str, ...]
    ratios: tuple[float, ...] = ()
    """The ratio of each round, in order: how far single rounds scatter. Of many rounds MOST_RATIOS, evenly taken."""

    def in_ms(self, base_ms: float | None = None) -> Estimate:
        """Return the ratio times the reference's milliseconds.

        Give `base_ms`, measured once per study, to make trials of different hours comparable; the default is this
        measurement's own reference.
        """
        return self.ratio.scaled(self.reference_ms if base_ms is None else base_ms)


def compare(
    candidate: Side,
    reference: Side,
    *,
    half_width: float = 0.01,
    cap_s: float = 6.0,
    min_rounds: int = 9,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    waiting: Clock | None = None,
    whole_turns: bool = False,
) -> Latency:
    """Time one candidate against the reference; see `compare_many`."""
    return compare_many(
        [candidate],
        reference,
        half_width=half_width,
        cap_s=cap_s,
        min_rounds=min_rounds,
        seed=seed,
        clock=clock,
        waiting=waiting,
        whole_turns=whole_turns,
    )[0]


def compare_many(
    candidates: Sequence[Side],
    reference: Side,
    *,
    half_width: float = 0.01,
    cap_s: float = 6.0,
    min_rounds: int = 9,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    waiting: Clock | None = None,
    watch: Callable[[float], None] = lambda share: None,
    whole_turns: bool = False,
) -> tuple[Latency, ...]:
    """Time candidates against the reference, interleaved; one `Latency` each, in their order.

    At least one round is measured, whatever the cap, and every opening of a side is used at least once.

    Args:
        half_width: relative half-width of the 95 % interval at which a candidate is done.
        cap_s: seconds allowed per candidate.
        seed: orders the rounds.
        clock: injected in tests.
        waiting: counts the seconds this process was ready to run while another had the processor (`runqueue_wait_s`;
            not used with an injected clock).
        watch: called after each round with the share of the time cap that is used up.
        whole_turns: end, beyond the cap if need be, only when every opening was used equally often: where they differ.

    Raises `LatencyError` on arguments out of range and on a clock that stands still.
    """
    _check(candidates, half_width, cap_s, min_rounds)
    if waiting is None:
        waiting = runqueue_wait_s if clock is time.perf_counter else (lambda: 0.0)
    sides, base = [_opened(side) for side in candidates], _opened(reference)
    with no_garbage_collection():
        start, waited = clock(), waiting()
        rounds = _Rounds.begin(sides, base, clock, cap_s, min_rounds)
        allowed = cap_s * len(sides)
        rounds.measure(
            np.random.default_rng(seed),
            half_width,
            min_rounds,
            start + allowed,
            lambda: watch(min(1.0, (clock() - start) / allowed)),
            whole_turns=whole_turns,
        )
        seconds = float(clock() - start)
        # Where the inference happens on another device, who waits here does not matter.
        here = not isinstance(base[0], SelfTimed) or getattr(base[0], "is_here", False)
        foreign = here and (waiting() - waited) / seconds > FOREIGN_LOAD
    return tuple(rounds.result(i, half_width, seconds, foreign) for i in range(len(sides)))


def _opened(side: Side) -> tuple[Runner, ...]:
    return tuple(side) if isinstance(side, Sequence) else (side,)


def _check(candidates: Sequence[Side], half_width: float, cap_s: float, min_rounds: int) -> None:
    if not candidates:
        raise LatencyError("Nothing to time: expected at least one candidate.")
    if not 0 < half_width < 1 or not 0 < cap_s < math.inf or min_rounds < SMALLEST_SAMPLE:
        raise LatencyError(
            f"Expected 0 < half_width < 1, a finite cap_s above 0 and min_rounds of at least "
            f"{SMALLEST_SAMPLE}, "
            f"found half_width={half_width}, cap_s={cap_s}, min_rounds={min_rounds}."
        )


@dataclass(slots=True)
class _Rounds:
    """The samples of one call, in seconds.

    `ratios[i]` grows by one per round that visits candidate i; `numbers[i]` holds the round numbers, which decide which
    opening of each side was used.
    """

    sides: Sequence[tuple[Runner, ...]]
    reference: tuple[Runner, ...]
    clock: Clock
    runs: int
    ratios: list[list[float]]
    numbers: list[list[int]]
    times: list[list[Floats]]
    reference_times: list[Floats] = field(default_factory=list)
    reference_minima: list[float] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        sides: Sequence[tuple[Runner, ...]],
        reference: tuple[Runner, ...],
        clock: Clock,
        cap_s: float,
        min_rounds: int,
    ) -> _Rounds:
        typical = [_warm_up(side, clock) for side in (reference, *sides)]
        runs = _runs_per_block(typical, cap_s, min_rounds)
        ratios, numbers, times = ([[] for _ in sides] for _ in range(3))  # type: ignore[var-annotated]
        return cls(sides, reference, clock, runs, ratios, numbers, times)

    def measure(
        self,
        random: np.random.Generator,
        half_width: float,
        min_rounds: int,
        deadline: float,
        tell: Callable[[], None],
        *,
        whole_turns: bool,
    ) -> None:
        """Run rounds until every candidate is settled or time is up.

        This is checked rarely: checking after every round would stop at lucky moments and bias the intervals.
        """
        turn = self._openings if whole_turns else 1
        look = _whole(max(min_rounds, 2 * self._openings), turn)
        active = list(range(len(self.sides)))
        for number in count():
            self._round(number, random.permutation(active).tolist())
            tell()
            if number + 1 == look:
                active = [i for i in active if not _settled(self._ratio(i), half_width)]
                look = _whole(look * 1.3, turn)
            if (number + 1) % turn == 0 and (not active or self.clock() >= deadline):
                return

    @property
    def _openings(self) -> int:
        return max(len(self.reference), *(len(side) for side in self.sides))

    def _round(self, number: int, order: Sequence[int]) -> None:
        reference = self.reference[number % len(self.reference)]
        before = self._reference_block(reference)
        for i in order:
            side = self.sides[i]
            times, least = self._block(side[number % len(side)])
            after = self._reference_block(reference)
            self.times[i].append(times)
            self.numbers[i].append(number)
            self.ratios[i].append(least / math.sqrt(before * after))
            before = after

    def _reference_block(self, runner: Runner) -> float:
        times, least = self._block(runner)
        self.reference_times.append(times)
        self.reference_minima.append(least)
        return least

    def _block(self, runner: Runner) -> tuple[Floats, float]:
        """Return the seconds of the block's inferences, and their minimum.

        The first inference, which finds the caches full of another model, counts for the minimum only.
        """
        times = _timed(runner, self.runs, self.clock)
        cold = 1 if len(times) > 1 and not isinstance(runner, SelfTimed) else 0
        return times[cold:], float(times.min())

    def _ratio(self, i: int) -> Estimate:
        clusters: list[list[float]] = [[] for _ in range(max(len(self.sides[i]), len(self.reference)))]
        for number, ratio in zip(self.numbers[i], self.ratios[i], strict=True):
            clusters[number % len(clusters)].append(ratio)
        return clustered_interval(clusters)

    def result(self, i: int, half_width: float, seconds: float, foreign: bool) -> Latency:
        ratio = self._ratio(i)
        reference_times = np.concatenate(self.reference_times)
        p50, p90 = np.percentile(np.concatenate(self.times[i]), [50, 90]) * 1e3
        base_p50, base_p90 = np.percentile(reference_times, [50, 90]) * 1e3
        flags = [
            *(["not_settled"] if not _settled(ratio, half_width) else []),
            *(["few_rounds"] if len(self.ratios[i]) < SMALLEST_SAMPLE else []),
            *drift_flags(self.reference_minima),
            *(["foreign_load"] if foreign else []),
            *noise_flags(reference_times),
        ]
        return Latency(
            ratio=ratio,
            p50_ms=float(p50),
            p90_ms=float(p90),
            reference_ms=float(base_p50),
            reference_p90_ms=float(base_p90),
            rounds=len(self.ratios[i]),
            seconds=seconds,
            flags=tuple(flags),
            ratios=_thinned(self.ratios[i]),
        )


def _whole(rounds: float, turn: int) -> int:
    """Return so many rounds, or the few more that make whole turns."""
    return math.ceil(rounds / turn) * turn


def _thinned(ratios: Sequence[float]) -> tuple[float, ...]:
    step = max(1, math.ceil(len(ratios) / MOST_RATIOS))
    return tuple(round(float(ratio), 5) for ratio in ratios[::step])


def _timed(runner: Runner, runs: int, clock: Clock) -> Floats:
    """Return the seconds of `runs` inferences, shape (runs,); a `SelfTimed` runner reports its own."""
    if isinstance(runner, SelfTimed):
        return runner.times_s()
    ticks = np.empty(runs + 1)
    ticks[0] = clock()
    for k in range(runs):
        runner.run()
        ticks[k + 1] = clock()
    times: Floats = np.diff(ticks)
    if not times.min() > 0:
        raise LatencyError("An inference took no time at all: the clock stands still, or the runner does nothing.")
    return times


def _warm_up(side: tuple[Runner, ...], clock: Clock) -> float:
    """Let the runtime allocate and choose kernels; return the seconds of a typical inference."""
    if isinstance(side[0], SelfTimed):  # its program warms up by itself; this call finds what is wrong with it
        return float(side[0].times_s().min())
    for runner in side:
        _timed(runner, 2, clock)
    return float(_timed(side[0], 3, clock).min())


def _runs_per_block(typical_s: Sequence[float], cap_s: float, min_rounds: int) -> int:
    """Return enough runs for the fastest runner to fill a block, few enough that `min_rounds` fit into the cap."""
    wanted = max(FEWEST_RUNS, math.ceil(BLOCK_S / min(typical_s)))
    one_run_everywhere = sum(typical_s[1:]) + typical_s[0] * len(typical_s)
    affordable = int(cap_s * (len(typical_s) - 1) / (one_run_everywhere * min_rounds))
    return max(1, min(wanted, affordable, MAX_RUNS_PER_BLOCK))


def _settled(ratio: Estimate, half_width: float) -> bool:
    return (ratio.high - ratio.low) / 2 <= half_width * ratio.value
