"""Exceptions of the package.

    ParetoPruneError                     exit 1
    |
    |-- errors of the caller: the same call fails again until it is changed
    |   |-- ConfigError                  exit 2   study.yaml, a key=value, a reference that names nothing
    |   `-- NotComparable                exit 5   the run on disk was made by a different study
    |
    `-- errors of the environment
        |-- RunLocked                    exit 5   another coordinator writes this run; retry when it ended
        |-- RunCorrupt                   exit 5   files of the run are missing or contradict each other
        |-- SystemUnsupported            exit 4   Windows itself; in WSL2 it is Linux
        |-- DeviceMissing                exit 4   a GPU that this machine does not have
        |-- ServerMissing                exit 4   a storage or a cluster that does not answer; retry when it does
        |-- TrialFailed                  exit 1   one trial; recorded, the search goes on
        |-- SearchFailing                exit 1   every trial failed, or most recent ones in the same way
        |-- DiskFailing                  exit 1   the disk of the run is full, read-only or broken; resumable
        `-- Interrupted                  exit 130 stopped by the user; resumable

    from the other packages, by name (see `exit_code`)
        objectives.NothingFits           exit 3   carries the closest trial
        objectives.BackendMissing        exit 4   carries the line that installs it
        pruning.PlanError, TraceError, CheckpointError   exit 2
    from the system: a folder or file that may not be read or written, a path too long   exit 2

An error names the fault, its place, what was expected, the nearest valid name and the next command.
"""

from __future__ import annotations

import difflib
import errno
import re
import sys
from collections.abc import Iterable

INTERNAL = 1


class ParetoPruneError(Exception):
    """Base class of all errors written for users.

    Args:
        what: one sentence, without a full stop at the end of a path or value.
        where: file, line and key, or the command-line argument.
        expected: what would have been accepted.
        near: the closest valid name.
        next_command: a command that the user can type now.
    """

    exit_code = INTERNAL

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        near: str | None = None,
        next_command: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.near = near
        self.next_command = next_command
        super().__init__(self._text())

    def _text(self) -> str:
        rows = (
            ("where", self.where),
            ("expected", self.expected),
            ("did you mean", self.near),
            ("next", self.next_command),
        )
        return "\n".join([self.what, *(f"  {label}: {value}" for label, value in rows if value)])


class ConfigError(ParetoPruneError):
    """The study, an override or a reference cannot be used as written."""

    exit_code = 2


class NotComparable(ParetoPruneError):
    """The run on disk and the present study would not measure the same thing."""

    exit_code = 5


class RunLocked(ParetoPruneError):
    """Another coordinator holds run.lock."""

    exit_code = 5


class RunCorrupt(ParetoPruneError):
    """The files of a run are missing or contradict each other."""

    exit_code = 5


class SystemUnsupported(ParetoPruneError):
    """Windows, where what a search stands on is missing: locks that die with their owner, signals, a fork server."""

    exit_code = 4


class DeviceMissing(ParetoPruneError):
    """The study names a device that does not exist."""

    exit_code = 4


class ServerMissing(ParetoPruneError):
    """The database or the Ray cluster of a study does not answer. Measurements so far are kept."""

    exit_code = 4


class TrialFailed(ParetoPruneError):
    """One trial could not be measured. `kind` is a value of `trial.FailureKind`."""

    def __init__(self, kind: str, what: str) -> None:
        self.kind = kind
        super().__init__(what)

    def __reduce__(self) -> tuple[type[TrialFailed], tuple[str, str]]:
        return TrialFailed, (self.kind, self.what)


class SearchFailing(ParetoPruneError):
    """No trial of a search succeeded, or most recent ones failed with the same error."""


class DiskFailing(ParetoPruneError):
    """The run cannot be written. Acknowledged results are on disk."""


class Interrupted(ParetoPruneError):
    """The user stopped the search; `next_command` resumes it."""

    exit_code = 130


_NO_ACCESS = (PermissionError, NotADirectoryError, IsADirectoryError)
"""Their own text names the path: `[Errno 13] Permission denied: '/srv/runs'`."""
_NO_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS)
"""What the system says of a path that it does not take, or does not let be written; names the path too."""
_NO_TEMPORARY = "No usable temporary directory"
"""What Python's tempfile says, without a file name."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it: all but tab and line feed, and what turns the direction of text."""

_ELSEWHERE = {
    "objectives.NothingFits": 3,
    "objectives.BackendMissing": 4,
    "objectives.AccuracyError": 2,
    "objectives.BoundError": 2,
    "objectives.ObjectiveError": 2,
    "pruning.CheckpointError": 2,
    "pruning.PlanError": 2,
    "pruning.TraceError": 2,
}
"""Exit codes of the other rooms' exceptions, by room and class name: no import, so that no room is loaded."""


def exit_code(error: BaseException) -> int:
    """Return the exit code of any exception, following the table of DESIGN.md; 1 for unforeseen ones."""
    if isinstance(error, ParetoPruneError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return Interrupted.exit_code
    if _is_about_a_path(error):
        return ConfigError.exit_code
    for cls in type(error).__mro__:
        code = _ELSEWHERE.get(f"{cls.__module__.partition('.')[0]}.{cls.__name__}")
        if code is not None:
            return code
    return INTERNAL


def is_foreseen(error: BaseException) -> bool:
    """Return True if the error's text is written for users, so that no traceback is needed."""
    if isinstance(error, ParetoPruneError) or _is_about_a_path(error):
        return True
    rooms = {cls.__module__.partition(".")[0] for cls in type(error).__mro__}
    return bool(rooms & {"pruning", "objectives"})


def _is_about_a_path(error: BaseException) -> bool:
    """Tell whether the system's own text is enough: it names the path, or every temporary folder that was tried."""
    if not isinstance(error, OSError):
        return False
    has_no_temporary = error.errno == errno.ENOENT and _NO_TEMPORARY in str(error)
    return isinstance(error, _NO_ACCESS) or error.errno in _NO_PATH or has_no_temporary


def check_system() -> None:
    """Refuse to begin where nothing could end well. Raises SystemUnsupported on Windows."""
    if sys.platform.startswith("win"):  # not `== "win32"`: type checkers would skip what follows
        raise SystemUnsupported(
            "ParetoPrune does not run on Windows itself: its locks and processes are those of Linux and macOS",
            expected="WSL2, the Linux that comes with Windows, in which everything works as on Linux",
            next_command="wsl --install",
        )


def printable(text: str) -> str:
    """Return a text that a terminal shows as it is: control characters, of a foreign file for example, are escaped."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), text)


def near_miss(name: object, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, which YAML may have read as a number, or None."""
    found = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return found[0] if found else None
