"""Translate errors of the Optuna storage to this project's exceptions; check SQLite files, set damaged ones aside."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pruning.errors import first_line
from search.errors import ConfigError, ParetoPruneError, RunCorrupt, ServerMissing
from search.run_folder.atomic import write_atomic
from search.run_folder.quarantine import PARTS, set_aside

_DISK = {
    "database or disk is full": errno.ENOSPC,
    "readonly database": errno.EROFS,
    "disk I/O error": errno.EIO,
    "unable to open database file": errno.EIO,
}
"""SQLite's sentences (sqlite3ErrStr) -> what the system would have said."""


_LONGEST = 504
"""Bytes of a path: MAX_PATHNAME of SQLite's os_unix.c is 512, with room for the endings of its journals."""


@contextmanager
def storage_errors() -> Iterator[None]:
    """Translate wrapped disk errors to OSError with their errno, errors of a lost server to ServerMissing."""
    try:
        yield
    except (OSError, ParetoPruneError):
        raise
    except Exception as error:
        said = "\n".join(map(str, _chain(error)))
        for sentence, number in _DISK.items():
            if sentence in said:
                raise OSError(number, sentence, "study.db") from error
        lost = next(filter(_is_of_a_server, _chain(error)), None)
        if lost is not None:
            raise server_gone(lost) from None  # the text around it may hold what was sent
        if "malformed" in said:
            raise RunCorrupt("study.db is damaged", where="study.db", next_command="paretoprune resume") from error
        raise


def server_gone(error: BaseException) -> ServerMissing:
    """Return the error for a storage server that stops answering during a search."""
    return ServerMissing(
        f"the storage does not answer any more: {first_line(error)}",
        where="storage",
        expected="the PostgreSQL server; every result that was acknowledged is in the run's folder",
        next_command="paretoprune resume, when it answers again",
    )


def _is_of_a_server(error: BaseException) -> bool:
    """Detect psycopg's OperationalError: refused, cut, shut down, in recovery, out of space."""
    psycopg = sys.modules.get("psycopg")
    return psycopg is not None and isinstance(error, psycopg.OperationalError)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_length(path: Path) -> None:
    """Raise ConfigError for a path that SQLite does not take, though the system does."""
    length = len(os.fsencode(path))
    if length > _LONGEST:
        raise ConfigError(
            f"the path of the run is too long for SQLite: {length} bytes, at most {_LONGEST}",
            where=str(path),
            expected="a shorter one: project=FOLDER and name=NAME; a run that is there already can be moved",
        )


def open_file(path: Path, busy_s: float) -> None:
    """Check the integrity of a SQLite file, and set WAL mode, so that readers never block the writer.

    A damaged file is quarantined, since SQLite would silently go on writing into it; one whose rebuilding was cut is
    deleted. Then an empty one takes its place, to be rebuilt from the trial folders.

    Raises:
        OSError: the disk is full, read-only or fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if _marker(path).exists():
        for part in ("", *PARTS):
            path.with_name(path.name + part).unlink(missing_ok=True)
    with storage_errors():
        if _fault(path, busy_s) is None:
            return
        set_aside(path)
        _fault(path, busy_s)


@contextmanager
def rebuilding(path: Path) -> Iterator[None]:
    """Mark a SQLite file as half rebuilt while inside, so that `open_file` begins again after a cut."""
    write_atomic(_marker(path), "\n")
    yield
    _marker(path).unlink()


def _marker(path: Path) -> Path:
    return path.with_name(f"{path.name}.rebuilding")


def _fault(path: Path, busy_s: float) -> str | None:
    """Return the first error of SQLite's own integrity check."""
    try:
        with closing(sqlite3.connect(path, timeout=busy_s)) as connection:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:  # of the disk, or another process locks the file; the content may be intact
        raise
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else found.replace("\n", " ")
