"""A machine-wide lock: only one process measures latency at a time."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from objectives.errors import LatencyError


@contextlib.contextmanager
def measuring_lock(
    path: str | Path,
    *,
    timeout_s: float | None = None,
    poll_s: float = 0.05,
    who: str = "",
    waiting: Callable[[float], None] = lambda seconds: None,
) -> Iterator[None]:
    """Hold the machine's measuring lock, so that only one process measures at a time.

    The lock is `flock` on `path`, which is created and left in place; the kernel frees it when its holder dies, so
    there is no stale lock. Waits for the holder; after `timeout_s` raises `LatencyError` with the holder's process id.
    A link in the place of the file is not followed. POSIX only.

    Args:
        who: what the holder is, for those who wait (`holder_of`).
        waiting: called with the seconds waited so far, before every further try.
    """
    try:
        import fcntl
    except ImportError as fault:
        raise LatencyError(
            "The measuring lock needs a POSIX system (fcntl.flock); on this one run one worker."
        ) from fault
    file = Path(path)
    descriptor = open_lock(file)
    try:
        begin = time.monotonic()
        end = None if timeout_s is None else begin + timeout_s
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if end is not None and time.monotonic() >= end:
                raise LatencyError(
                    f"Another process ({holder_of(descriptor)}) has been measuring for over {timeout_s:g} s and holds "
                    f"{file}. "
                    f"Wait for it to finish, or stop it."
                )
            waiting(time.monotonic() - begin)
            time.sleep(poll_s)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"id {os.getpid()}{', ' if who else ''}{who}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def open_lock(path: Path) -> int:
    """Open a lock's file, made if it is missing, and its folder. Raises LatencyError for a link or a folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as fault:
        raise LatencyError(
            f"The measuring lock {path} cannot be opened: {fault.strerror}. It must be a file of your own, and no link."
        ) from fault


def holder_of(descriptor: int) -> str:
    """Return what the last holder of an open lock wrote, `id 4711, ...`, and what to do if it was stopped."""
    written = os.pread(descriptor, 400, 0).decode(errors="replace").strip() or "id unknown"
    number = re.match(r"id (\d+)", written)
    if number is None or not _is_stopped(int(number[1])):
        return written
    return f"{written}; it was stopped by a signal or a debugger: kill -CONT {number[1]} lets it go on"


def _is_stopped(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):  # it has ended, or this system has no /proc
        return False
    return state in ("T", "t")
