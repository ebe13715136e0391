"""Pinning: the quietest processors are chosen, every thread stays there, and all is as before afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from objectives.latency import cpu_pinning
from objectives.latency.cpu_pinning import busy_seconds, pinned, quietest

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")


def test_the_least_busy_are_chosen() -> None:
    busy = {0: 0.0, 1: 0.04, 2: 0.0, 3: 0.01}
    assert quietest(busy, 1, set(busy)) == (2,)
    assert quietest(busy, 3, set(busy)) == (0, 2, 3)
    assert quietest(busy, 1, {0, 1}) == (0,)
    assert quietest({}, 1, {0, 1}) == ()


@needs_affinity
def test_all_threads_stay_there_and_come_back() -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("one processor: there is nothing to choose")
    old, seen, end = [], [], threading.Event()

    def work() -> None:
        old.append(threading.get_native_id())
        end.wait(20)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        with pinned(1) as chosen:
            assert len(chosen) == 1 and os.sched_getaffinity(0) == set(chosen)
            assert os.sched_getaffinity(old[0]) == set(chosen)
            young = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
            young.start()
            young.join()
            assert seen == [set(chosen)]
        assert os.sched_getaffinity(0) == before == os.sched_getaffinity(old[0])
    finally:
        end.set()
        worker.join()
    with pytest.raises(ZeroDivisionError), pinned(1):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_nothing_is_pinned_where_all_processors_are_needed() -> None:
    before = os.sched_getaffinity(0)
    with pinned(len(before)) as chosen:
        assert chosen == () and os.sched_getaffinity(0) == before


def test_without_proc_nothing_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_pinning, "_busy_ticks", lambda: {})
    with pinned(1) as chosen:
        assert chosen == ()


@needs_affinity
def test_a_processor_that_computes_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = max(os.sched_getaffinity(0))
    spin = f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nprint('on', flush=True)\nwhile True: pass"
    monkeypatch.setattr(cpu_pinning, "LOOK_S", 0.3)
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "on\n"
            assert busy_seconds()[cpu] > 0.2
        finally:
            process.kill()
