"""A machine-wide lock: only one process measures latency at a time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from objectives.errors import LatencyError


@contextlib.contextmanager
def measuring_lock(path: str | Path, *, timeout_s: float | None = None, poll_s: float = 0.05) -> Iterator[None]:
    """Hold the machine's measuring lock, so that only one process measures at a time.

    The lock is `flock` on `path`, which is created and left in place; the kernel frees it when its holder dies, so
    there is no stale lock. Waits for the holder; after `timeout_s` raises `LatencyError` with the holder's process id.
    POSIX only.
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
