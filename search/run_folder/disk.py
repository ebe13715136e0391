"""The disk of a run: free space for another trial, and translation of its errors."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from search.errors import DiskFailing

LEAST_BYTES = 64_000_000
"""Bytes for what the coordinator writes: study.db, the snapshot, the tables, the page."""
COPIES = 8
"""A trial writes its weights, what is timed, and what exporters leave meanwhile: so many files as large as the base."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FAILING = {errno.EIO, errno.EROFS, errno.ENODEV, errno.ESTALE, errno.EFBIG, *_FULL}


@dataclass(frozen=True)
class DiskSpace:
    """Disk space for a trial.

    Args:
        run: the run's folder; `model_bytes`: size of the base's file.
    """

    run: Path
    model_bytes: int = 0

    @property
    def needed(self) -> int:
        """Bytes that must be free before a trial starts."""
        return LEAST_BYTES + COPIES * self.model_bytes

    def missing(self) -> str | None:
        """Return the reason to pause, or None if free space suffices or is unknown."""
        try:
            free = free_bytes(self.run)
        except OSError:
            return None
        if free >= self.needed:
            return None
        return f"no room on the disk: {free / 1e6:.0f} MB free, a trial needs {self.needed / 1e6:.0f} MB ({self.run})"


def free_bytes(path: Path) -> int:
    """Return the bytes that this user can still write on the disk of `path`."""
    return shutil.disk_usage(path).free


def is_full(error: BaseException) -> bool:
    """Return whether the disk, or the user's quota, is full."""
    return isinstance(error, OSError) and error.errno in _FULL


@contextmanager
def disk_errors(run: Path) -> Iterator[None]:
    """Translate errors of the disk of `run` to DiskFailing, with the way to resume; others pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FAILING:
            raise
        raise DiskFailing(
            f"the disk cannot be written: {error.strerror or error}",
            where=str(error.filename or run),
            expected="a disk that can be written and has room; every result that was acknowledged is kept",
            next_command=f"paretoprune resume {run}",
        ) from error


def model_bytes(model: str) -> int:
    """Return the size of a base's file; 0 for a user's function."""
    try:
        return Path(model).stat().st_size
    except OSError:
        return 0
