"""Pin a measurement to the least busy processors, so that the scheduler does not migrate it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

LOOK_S = 0.05
"""How long the load of the processors is looked at; the kernel counts in hundredths of a second."""


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Pin all threads of this process, and new ones, to the `threads` least busy processors.

    Yields these processors, or () without pinning: the system has no affinity (macOS), /proc does not give the load, or
    the process may not use more processors than that anyway. On exit every thread gets the process's former affinity.
    """
    allowed = _allowed()
    if len(allowed) <= threads:
        yield ()
        return
    chosen = quietest(busy_seconds(), threads, allowed)
    if not chosen:
        yield ()
        return
    _restrict(set(chosen))
    try:
        yield chosen
    finally:
        _restrict(allowed)


def quietest(busy_s: Mapping[int, float], count: int, allowed: set[int]) -> tuple[int, ...]:
    """Return the `count` least busy processors; () if the load of one is unknown.

    Ties go to higher numbers: interrupts tend to be served by the lowest.
    """
    if not allowed <= busy_s.keys():
        return ()
    return tuple(sorted(sorted(allowed, key=lambda cpu: (busy_s[cpu], -cpu))[:count]))


def busy_seconds() -> dict[int, float]:
    """Measure each processor's busy seconds over the next `LOOK_S`; empty if /proc/stat is unavailable."""
    before = _busy_ticks()
    time.sleep(LOOK_S)
    after = _busy_ticks()
    hertz = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    return {cpu: (ticks - before[cpu]) / hertz for cpu, ticks in after.items() if cpu in before}


def _busy_ticks() -> dict[int, int]:
    """Read `/proc/stat` (proc(5)): user nice system idle iowait irq softirq steal; without idle and iowait."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    rows = [line.split() for line in lines if line.startswith("cpu") and not line.startswith("cpu ")]
    return {int(row[0][3:]): sum(map(int, row[1:4])) + sum(map(int, row[6:9])) for row in rows}


def _allowed() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def _restrict(cpus: set[int]) -> None:
    """Set the affinity of every thread: runtimes and PyTorch have started some already."""
    for task in Path("/proc/self/task").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a thread that ended in between
            os.sched_setaffinity(int(task.name), cpus)
