"""The data-loader processes of a trial: they go on filling their queues while the trial itself waits."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def loaders_stopped() -> Iterator[None]:
    """Inside, the daemon processes that this process started (data loaders are such) are stopped by SIGSTOP.

    Other children, for example the trials of a coordinator, are left alone. Whoever kills the process group of a trial
    kills stopped processes too.
    """
    loaders = [child.pid for child in multiprocessing.active_children() if child.daemon and child.pid]
    _send(loaders, signal.SIGSTOP)
    try:
        yield
    finally:
        _send(loaders, signal.SIGCONT)


def _send(processes: list[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):  # it ended in between
            os.kill(process, number)
