"""run.lock: one coordinator per run.

The lock is the kernel's (flock), so that it is released whenever its owner dies. The file's content is only used in the
error message.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import datetime
from pathlib import Path
from types import TracebackType

from search.errors import ConfigError, RunLocked


class RunLock:
    """Context manager that holds `path` exclusively.

    Raises:
        RunLocked: another process holds it; at once, without waiting.
        ConfigError: the folder cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    def __enter__(self) -> RunLock:
        handle = self._open()
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise self._locked() from error
        self._handle = handle
        self._sign(handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def is_held(self) -> bool:
        """Return True if any process, including this one, holds the lock now."""
        if self._handle is not None:
            return True
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False

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
        start = datetime.now().astimezone().isoformat(timespec="seconds")
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
