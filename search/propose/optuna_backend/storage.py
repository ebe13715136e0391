"""The connection to a study's storage, and its exclusive ownership."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna

from pruning.errors import first_line
from search.config.storage_url import is_postgresql, scrubbed, shown, usable
from search.errors import RunCorrupt, RunLocked, ServerMissing
from search.run_folder.storage_errors import open_file, storage_errors

_BUSY_S = 60
_OWN_SESSION = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_ENDING_TRIES, _ENDING_S = 20, 0.1
"""A session that is ended frees its lock a moment later."""
_OWNER = """\
SELECT application_name, client_addr, backend_start, pid FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = %d"""


def connection_settings(url: str) -> dict[str, Any]:
    """Return keyword arguments of SQLAlchemy's `create_engine`.

    A server may close a connection that idled during a long trial, so connections are tested before use (Optuna #5600).
    """
    if not is_postgresql(url):
        return {}
    name = f"paretoprune pid {os.getpid()} on {socket.gethostname()}"[:63]
    alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
    return {"pool_pre_ping": True, "connect_args": {"application_name": name, "connect_timeout": 10, **alive}}


class Claim:
    """Exclusive ownership of a study on a PostgreSQL server, across all run folders.

    A session's advisory lock: the server frees it when its owner dies, as the kernel does with run.lock, and also when
    the server restarts, after which it must be taken again. If the connection was cut and the server has not noticed,
    the old session still holds it and is terminated.

    Args:
        engine: SQLAlchemy's, of the storage. name: of the Optuna study.

    Raises:
        RunLocked: another coordinator holds it; names the owner.
    """

    def __init__(self, engine: Any, name: str) -> None:
        self._engine, self._name = engine, name
        self._session: tuple[Any, ...] | None = None
        self._key = int.from_bytes(hashlib.sha256(f"paretoprune/{name}".encode()).digest()[:7], "big")
        self._take()

    def renew(self) -> None:
        """Take the lock again if its connection is lost. Raises RunLocked if another process holds it now."""
        if not self._is_held():
            self.release()
            self._take()

    def _is_held(self) -> bool:
        from sqlalchemy.exc import SQLAlchemyError

        if self._held.closed:
            return False
        try:
            self._held.exec_driver_sql("SELECT 1")
        except SQLAlchemyError:
            return False
        return True

    def _take(self) -> None:
        self._held = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            taken, owner = self._tried()
        except BaseException:
            self.release()
            raise
        if taken:
            return
        self.release()
        said = "another process" if owner is None else f"{owner[0]} ({owner[1] or 'local'}) since {owner[2]:%F %T}"
        raise RunLocked(
            f"the study {self._name} of this storage is being searched by {said}",
            where="storage",
            expected="one coordinator per study",
            next_command="wait for it, or give this run another name: name=NEW_NAME",
        )

    def _tried(self) -> tuple[bool, Any]:
        """Return whether this session holds the lock now, and its owner otherwise."""
        for _ in range(_ENDING_TRIES):
            if self._held.exec_driver_sql(f"SELECT pg_try_advisory_lock({self._key})").scalar():
                self._session = tuple(self._held.exec_driver_sql(_OWN_SESSION).one())
                return True, None
            owner = self._held.exec_driver_sql(_OWNER % self._key).first()
            if owner is not None and (owner.pid, owner.backend_start) != self._session:
                return False, owner
            if owner is not None:
                self._held.exec_driver_sql(f"SELECT pg_terminate_backend({owner.pid})")
            time.sleep(_ENDING_S)
        return False, owner

    def release(self) -> None:
        """Release the lock. Idempotent."""
        if not self._held.closed:
            self._held.invalidate()  # back in the pool it would keep the lock
            self._held.close()


def sqlite_url(path: Path) -> str:
    """Return the URL of a SQLite storage, checked and opened by `open_file`."""
    open_file(path, _BUSY_S)
    return f"sqlite:///{path}"


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """Open the storage. Raises RunCorrupt for a file, ServerMissing for a server; neither repeats a password."""
    sqlite = url.startswith("sqlite")
    settings: dict[str, Any] = {"connect_args": {"timeout": _BUSY_S}} if sqlite else connection_settings(url)
    try:
        return optuna.storages.RDBStorage(usable(url), engine_kwargs=settings)
    except Exception as error:
        raise _unopened(url, error) from (error if url == shown(url) else None)


def _unopened(url: str, error: Exception) -> RunCorrupt | ServerMissing:
    first = scrubbed(first_line(error), url)
    if not is_postgresql(url):
        return RunCorrupt(f"the Optuna storage cannot be opened: {first}", where=shown(url))
    return ServerMissing(
        f"the storage does not answer: {first}",
        where=f"storage: {shown(url)}",
        expected="a PostgreSQL server that lets this user in; the password in PGPASSWORD or ~/.pgpass",
        next_command="for details: psql with the same host, user and database",
    )


def ping(url: str) -> None:
    """Open and close the storage. Raises ServerMissing or RunCorrupt."""
    quiet()
    close_storage(open_storage(url))


@contextmanager
def claimed_on_server(url: str, name: str) -> Iterator[Callable[[], None]]:
    """Own a study of a PostgreSQL server exclusively; yield a function that verifies this after an outage.

    Raises RunLocked or ServerMissing, and so does the yielded function.
    """
    quiet()
    storage = open_storage(url)
    try:
        claim = Claim(storage.engine, name)

        def renew() -> None:
            with storage_errors():
                claim.renew()

        try:
            yield renew
        finally:
            claim.release()
    finally:
        close_storage(storage)


def close_storage(storage: optuna.storages.RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def quiet() -> None:
    """Silence Optuna's log, so that the terminal shows only the progress line."""
    optuna.logging.disable_default_handler()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
