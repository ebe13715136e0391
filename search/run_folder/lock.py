"""run.lock: one coordinator per run.

The lock is the kernel's (flock), so that it is released whenever its owner dies. The file's content is only used in the
error message.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType

from search.errors import ConfigError, RunLocked

_ASKED_S = 0.002
"""Pause before the next try to take a lock that others share while they ask."""
_ASKING_S = 2.0


class RunLock:
    """Context manager that holds `path` exclusively.

    Raises:
        RunLocked: another process holds it; at once, without waiting.
        ConfigError: the folder cannot be made or written, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def __enter__(self) -> RunLock:
        handle = self._open()
        try:
            self._take(handle)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        self._sign(handle)
        return self

    def _take(self, handle: int) -> None:
        end = time.monotonic() + _ASKING_S
        try:
            while not _flock(handle, fcntl.LOCK_EX):
                if not _flock(handle, fcntl.LOCK_SH) or time.monotonic() > end:
                    raise self._locked()
                fcntl.flock(handle, fcntl.LOCK_UN)  # only shared, by processes that ask whether it is held
                time.sleep(_ASKED_S)
        except OSError as error:  # ENOSYS, ENOLCK, EOPNOTSUPP
            raise ConfigError(
                f"the file system of the run's folder does not lock files: {error.strerror}",
                where=str(self._path),
                expected="a local disk, or NFS with a lock service: project=FOLDER",
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def is_held(self) -> bool:
        """Return True if any process, including this one, holds the lock now.

        False where the file system has no locks: nobody can have taken one there, and the run can still be read.
        Asking shares the lock for an instant; who takes it then sees that it is only shared, and tries again.
        """
        if self._handle is not None:
            return True
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return not _flock(handle, fcntl.LOCK_SH)
        except OSError:
            return False
        finally:
            os.close(handle)

    def is_held_elsewhere(self) -> bool:
        """Return True if something else than this object holds the lock now: mostly another process."""
        return self._handle is None and self.is_held()

    def owner(self) -> str:
        """Return `pid 4711 on desk since 2025-01-31T22:10:00`, or `another process` if unreadable."""
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
            return f"pid {data['pid']} on {data['host']} since {data['start']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(
                f"the run's folder cannot be written: {error.strerror}",
                where=str(self._path.parent),
                expected="a folder that can be made here: project=FOLDER",
            ) from error

    def _sign(self, handle: int) -> None:
        """Write who holds the lock; on a full disk nobody is named, and the lock is held all the same."""
        start = datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(OSError):
            text = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "start": start})
            os.ftruncate(handle, 0)
            os.pwrite(handle, text.encode(), 0)

    def _locked(self) -> RunLocked:
        run = self._path.parent
        return RunLocked(
            f"the run is being searched by {self.owner()}",
            where=str(self._path),
            expected="one coordinator per run",
            next_command=f"paretoprune status {run} follows it, paretoprune stop {run} ends it",
        )


def _flock(handle: int, kind: int) -> bool:
    """Lock an open file without waiting; return False if another holds it. Raises OSError if it cannot be locked."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
