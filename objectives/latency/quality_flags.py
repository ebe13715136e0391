"""Flags of disturbed measurements, and their detection."""

from __future__ import annotations

import contextlib
import gc
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from objectives.latency.intervals import SMALLEST_SAMPLE

DRIFT = 0.05
THROTTLING = 0.10
FOREIGN_LOAD = 0.05
NOISE = 0.30

FLAGS = MappingProxyType(
    {
        "not_settled": "the time cap came before the interval was narrow enough",
        "few_rounds": f"fewer than {SMALLEST_SAMPLE} rounds: too few for an interval that assumes nothing",
        "drift": f"the reference changed by more than {DRIFT:.0%} between the first and the last third",
        "throttling": f"the reference became more than {THROTTLING:.0%} slower: the processor reduced its clock",
        "foreign_load": f"more than {FOREIGN_LOAD:.0%} of the time another process had the processor",
        "noisy": f"one inference in ten of the reference took more than {NOISE:.0%} longer than the median",
    }
)
"""Each quality flag, and what it means."""
DISTURBED = frozenset({"drift", "throttling", "foreign_load", "noisy"})
"""Flags of a machine that was not quiet: measured again, the figure may be better."""


def drift_flags(block_minima: Sequence[float]) -> list[str]:
    """Return the flags of the reference's block minima (s), in the order of time."""
    third = len(block_minima) // 3
    if third == 0:
        return []
    change = float(np.median(block_minima[-third:]) / np.median(block_minima[:third])) - 1
    if change > THROTTLING:
        return ["drift", "throttling"]
    return ["drift"] if abs(change) > DRIFT else []


def noise_flags(times: npt.NDArray[np.float64]) -> list[str]:
    """Return the flags of all inferences of the reference (s)."""
    p50, p90 = np.percentile(times, [50, 90])
    return ["noisy"] if p90 > (1 + NOISE) * p50 else []


def runqueue_wait_s() -> float:
    """Return the seconds that this process's threads were ready to run while others had the processor.

    Source: the second field of `/proc/<pid>/task/<tid>/schedstat` (Linux). Elsewhere 0, so no flag is raised.
    """
    waited = 0
    for path in glob.glob("/proc/self/task/*/schedstat"):
        with contextlib.suppress(OSError, IndexError, ValueError):  # a thread that ended in between
            waited += int(Path(path).read_text().split()[1])
    return waited / 1e9


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Disable Python's garbage collector during measured blocks."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
