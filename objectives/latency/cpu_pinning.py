"""Keeping a measurement on the processors that are least busy, so that nothing moves it while it runs."""

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
    """Inside, all threads of this process, and those it starts, stay on the `threads` least busy processors.

    Yields these processors; nothing is pinned, and () is yielded, where the system has no affinity (macOS), where
    /proc does not say the load, or where the process may use no more processors than that anyway. Afterwards every
    thread may go where the process could go before.
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
    """The `count` processors with the least busy time; () where one is not known. The highest numbers go first among
    equals: interrupts tend to be served by the lowest."""
    if not allowed <= busy_s.keys():
        return ()
    return tuple(sorted(sorted(allowed, key=lambda cpu: (busy_s[cpu], -cpu))[:count]))


def busy_seconds() -> dict[int, float]:
    """Processor -> seconds that it was busy during the next `LOOK_S`; empty where /proc/stat does not say."""
    before = _busy_ticks()
    time.sleep(LOOK_S)
    after = _busy_ticks()
    hertz = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
    return {cpu: (ticks - before[cpu]) / hertz for cpu, ticks in after.items() if cpu in before}


def _busy_ticks() -> dict[int, int]:
    """Fields of `/proc/stat` (proc(5)): user nice system idle iowait irq softirq steal; not idle, not iowait."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    rows = [line.split() for line in lines if line.startswith("cpu") and not line.startswith("cpu ")]
    return {int(row[0][3:]): sum(map(int, row[1:4])) + sum(map(int, row[6:9])) for row in rows}


def _allowed() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def _restrict(cpus: set[int]) -> None:
    """Affinity belongs to threads: runtimes and PyTorch have some already."""
    for task in Path("/proc/self/task").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # a thread that ended in between
            os.sched_setaffinity(int(task.name), cpus)
