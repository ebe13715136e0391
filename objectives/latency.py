"""How latency is measured, so that two close variants come out in the right order on a machine that is not
quiet.

The protocol. Candidates are compared with a reference, never with a stopwatch alone. A *round* visits every
candidate once in random order and puts a block of the reference before and after each: R a R c R b R. A
*block* is a few inferences, timed one by one, of which the fastest counts: disturbance only ever adds time.
One round yields one ratio per candidate,

    ratio = min(block of candidate) / sqrt(min(block before) * min(block after)),

in which drift of the clock frequency, slow against a round, cancels to first order. All blocks have the same
number of inferences, so that the expected minimum of a candidate equal to the reference is that of the
reference. The result is the median of the ratios over the rounds, with a 95 % interval from order statistics
(no assumption on their distribution; David and Nagaraja 2003, "Order Statistics", section 7.1). A candidate
leaves when its interval is within `half_width` of the median; all leave at the time cap.

The interval covers what varies between rounds. It cannot see what is fixed when a runner is opened (memory
placement): open the runner again and compare again to see that.

What disturbs a measurement raises a flag (`FLAGS`); the figure then comes with its flag instead of silently.
"""

from __future__ import annotations

import contextlib
import gc
import glob
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from objectives.errors import LatencyError
from objectives.objective import Estimate

if TYPE_CHECKING:  # the protocol itself needs no torch, and the measuring lock is taken by light processes too
    from objectives.runtimes import Runner

Floats = npt.NDArray[np.float64]
Clock = Callable[[], float]
"""Seconds, from any origin, never backwards."""

BLOCK_S = 0.008
"""A block lasts at least this long, well above timer and scheduler granularity."""
MAX_RUNS_PER_BLOCK = 200
FEWEST_RUNS = 2
"""The first inference after another model ran finds cold caches; the minimum of two does not."""
DRIFT = 0.05
THROTTLING = 0.10
FOREIGN_LOAD = 0.05
NOISE = 0.30
SMALLEST_SAMPLE = 6
"""Below six rounds no pair of order statistics encloses the median with 95 %."""

FLAGS = MappingProxyType(
    {
        "not_settled": "the time cap came before the interval was narrow enough",
        "few_rounds": f"fewer than {SMALLEST_SAMPLE} rounds: the interval is their range and covers less than 95 %",
        "drift": f"the reference changed by more than {DRIFT:.0%} between the first and the last third",
        "throttling": f"the reference became more than {THROTTLING:.0%} slower: the processor reduced its clock",
        "foreign_load": f"more than {FOREIGN_LOAD:.0%} of the time another process had the processor",
        "noisy": f"one inference in ten of the reference took more than {NOISE:.0%} longer than the median",
    }
)
"""Each quality flag, and what it means."""


@dataclass(frozen=True, slots=True)
class Latency:
    """One candidate against the reference. Times are per inference (of the whole batch), in milliseconds."""

    ratio: Estimate
    """Candidate time over reference time: 0.8 is a fifth faster."""
    p50_ms: float
    p90_ms: float
    reference_ms: float
    """Median inference of the reference in the same rounds."""
    rounds: int
    seconds: float
    """What the whole measurement took, warm-up included; shared by all candidates of one call."""
    flags: tuple[str, ...]

    def in_ms(self, base_ms: float | None = None) -> Estimate:
        """The ratio times the reference's milliseconds.

        Give `base_ms`, measured once per study, to make trials of different hours comparable; without it this
        measurement's own reference counts.
        """
        return self.ratio.scaled(self.reference_ms if base_ms is None else base_ms)


def compare(
    candidate: Runner,
    reference: Runner,
    *,
    half_width: float = 0.01,
    cap_s: float = 6.0,
    min_rounds: int = 9,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    waiting: Clock | None = None,
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
    )[0]


def compare_many(
    candidates: Sequence[Runner],
    reference: Runner,
    *,
    half_width: float = 0.01,
    cap_s: float = 6.0,
    min_rounds: int = 9,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    waiting: Clock | None = None,
) -> tuple[Latency, ...]:
    """Time candidates against the reference, interleaved; one `Latency` each, in their order.

    `half_width` is the relative half-width of the 95 % interval at which a candidate is done, `cap_s` the
    seconds allowed per candidate, `seed` orders the rounds. `clock` is injected in tests; `waiting` counts
    the seconds this process was ready to run while another had the processor (`runqueue_wait_s`; not used
    with an injected clock).

    At least one round is measured, whatever the cap. Raises `LatencyError` on arguments out of range and on a
    clock that stands still.
    """
    _check(candidates, half_width, cap_s, min_rounds)
    if waiting is None:
        waiting = runqueue_wait_s if clock is time.perf_counter else (lambda: 0.0)
    with _no_garbage_collection():
        start, waited = clock(), waiting()
        session = _Session.open(candidates, reference, clock, cap_s, min_rounds)
        deadline = start + cap_s * len(candidates)
        session.measure(np.random.default_rng(seed), half_width, min_rounds, deadline)
        seconds = float(clock() - start)
        foreign = (waiting() - waited) / seconds > FOREIGN_LOAD
    return tuple(session.result(i, half_width, seconds, foreign) for i in range(len(candidates)))


def _check(candidates: Sequence[Runner], half_width: float, cap_s: float, min_rounds: int) -> None:
    if not candidates:
        raise LatencyError("Nothing to time: expected at least one candidate.")
    if not 0 < half_width < 1 or not 0 < cap_s < math.inf or min_rounds < SMALLEST_SAMPLE:
        raise LatencyError(
            f"Expected 0 < half_width < 1, a finite cap_s above 0 and min_rounds of at least "
            f"{SMALLEST_SAMPLE}, "
            f"found half_width={half_width}, cap_s={cap_s}, min_rounds={min_rounds}."
        )


@dataclass(slots=True)
class _Session:
    """The samples of one call. Arrays of seconds; `ratios[i]` grows by one per round that visits candidate
    i."""

    candidates: Sequence[Runner]
    reference: Runner
    clock: Clock
    runs: int
    ratios: list[list[float]]
    times: list[list[Floats]]
    reference_times: list[Floats] = field(default_factory=list)

    @classmethod
    def open(
        cls, candidates: Sequence[Runner], reference: Runner, clock: Clock, cap_s: float, min_rounds: int
    ) -> _Session:
        typical = [_warm_up(runner, clock) for runner in (reference, *candidates)]
        runs = _runs_per_block(typical, cap_s, min_rounds)
        return cls(candidates, reference, clock, runs, [[] for _ in candidates], [[] for _ in candidates])

    def measure(self, random: np.random.Generator, half_width: float, min_rounds: int, deadline: float) -> None:
        """Rounds until every candidate is settled or time is up. Settledness is looked at rarely: looking
        after every round would stop at lucky moments and make the intervals too narrow."""
        look = min_rounds
        active = list(range(len(self.candidates)))
        for count in _naturals():
            self._round(random.permutation(active).tolist())
            if count == look:
                active = [i for i in active if not _settled(median_interval(self.ratios[i]), half_width)]
                look = math.ceil(look * 1.3)
            if not active or self.clock() >= deadline:
                return

    def _round(self, order: Sequence[int]) -> None:
        before = self._reference_block()
        for i in order:
            times = self._block(self.candidates[i])
            after = self._reference_block()
            self.times[i].append(times)
            self.ratios[i].append(float(times.min() / math.sqrt(before * after)))
            before = after

    def _reference_block(self) -> float:
        times = self._block(self.reference)
        self.reference_times.append(times)
        return float(times.min())

    def _block(self, runner: Runner) -> Floats:
        return _timed(runner, self.runs, self.clock)

    def result(self, i: int, half_width: float, seconds: float, foreign: bool) -> Latency:
        ratio = median_interval(self.ratios[i])
        p50, p90 = np.percentile(np.concatenate(self.times[i]), [50, 90]) * 1e3
        flags = [
            *(["not_settled"] if not _settled(ratio, half_width) else []),
            *(["few_rounds"] if len(self.ratios[i]) < SMALLEST_SAMPLE else []),
            *_drift_flags([float(block.min()) for block in self.reference_times]),
            *(["foreign_load"] if foreign else []),
            *_noise_flags(np.concatenate(self.reference_times)),
        ]
        return Latency(
            ratio=ratio,
            p50_ms=float(p50),
            p90_ms=float(p90),
            reference_ms=float(np.median(np.concatenate(self.reference_times)) * 1e3),
            rounds=len(self.ratios[i]),
            seconds=seconds,
            flags=tuple(flags),
        )


def _naturals() -> Iterator[int]:
    count = 0
    while True:
        count += 1
        yield count


def _timed(runner: Runner, runs: int, clock: Clock) -> Floats:
    """Seconds of `runs` inferences, shape (runs,)."""
    ticks = np.empty(runs + 1)
    ticks[0] = clock()
    for k in range(runs):
        runner.run()
        ticks[k + 1] = clock()
    times: Floats = np.diff(ticks)
    if not times.min() > 0:
        raise LatencyError("An inference took no time at all: the clock stands still, or the runner does nothing.")
    return times


def _warm_up(runner: Runner, clock: Clock) -> float:
    """Let the runtime allocate and choose kernels; seconds of a typical inference."""
    _timed(runner, 2, clock)
    return float(_timed(runner, 3, clock).min())


def _runs_per_block(typical_s: Sequence[float], cap_s: float, min_rounds: int) -> int:
    """Enough for the fastest runner to fill a block, but so few that the least number of rounds fits the
    cap."""
    wanted = max(FEWEST_RUNS, math.ceil(BLOCK_S / min(typical_s)))
    one_run_everywhere = sum(typical_s[1:]) + typical_s[0] * len(typical_s)
    affordable = int(cap_s * (len(typical_s) - 1) / (one_run_everywhere * min_rounds))
    return max(1, min(wanted, affordable, MAX_RUNS_PER_BLOCK))


def median_interval(samples: Sequence[float]) -> Estimate:
    """The median and its 95 % interval between two order statistics.

    With n samples the interval from the k-th smallest to the k-th largest encloses the median with the
    probability 1 - 2 P(Binomial(n, 1/2) < k) (David and Nagaraja 2003, equation 7.1.1); k is the largest for
    which that is at least 95 %. Below six samples it is the range.
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    n = len(ordered)
    k = _rank(n)
    return Estimate(float(np.median(ordered)), float(ordered[k - 1]), float(ordered[n - k]))


def _rank(n: int) -> int:
    below, k = 0.5**n, 0
    while below <= 0.025:
        k += 1
        below += math.comb(n, k) * 0.5**n
    return max(1, k)


def _settled(ratio: Estimate, half_width: float) -> bool:
    return (ratio.high - ratio.low) / 2 <= half_width * ratio.value


def _drift_flags(block_minima: Sequence[float]) -> list[str]:
    third = len(block_minima) // 3
    if third == 0:
        return []
    change = float(np.median(block_minima[-third:]) / np.median(block_minima[:third])) - 1
    if change > THROTTLING:
        return ["drift", "throttling"]
    return ["drift"] if abs(change) > DRIFT else []


def _noise_flags(times: Floats) -> list[str]:
    p50, p90 = np.percentile(times, [50, 90])
    return ["noisy"] if p90 > (1 + NOISE) * p50 else []


def runqueue_wait_s() -> float:
    """Seconds that this process' threads were ready to run while others had the processor, since they began.

    Source: the second field of `/proc/<pid>/task/<tid>/schedstat` (Linux). Elsewhere 0, so no flag is raised.
    """
    waited = 0
    for path in glob.glob("/proc/self/task/*/schedstat"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # a thread that ended in between
            waited += int(Path(path).read_text().split()[1])
    return waited / 1e9


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def measuring_lock(path: str | Path, *, timeout_s: float | None = None, poll_s: float = 0.05) -> Iterator[None]:
    """Hold the machine's measuring lock: only one process times at once.

    The lock is `flock` on `path`, which is created and left in place; the kernel frees it when its holder
    dies, so there is no stale lock. It waits for the holder; after `timeout_s` it raises `LatencyError` with
    the holder's process id. POSIX only.
    """
    try:
        import fcntl
    except ImportError as fault:
        raise LatencyError(
            "The measuring lock needs a POSIX system (fcntl.flock); on this one run one worker."
        ) from fault
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if end is not None and time.monotonic() >= end:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                raise LatencyError(
                    f"Another process (id {holder}) has been measuring for over {timeout_s:g} s and holds "
                    f"{file}. "
                    f"Wait for it to finish, or stop it."
                )
            time.sleep(poll_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
