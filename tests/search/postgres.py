"""A PostgreSQL server of the tests' own: from Debian's package, on a free port, gone with them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

USER, PASSWORD = "tester", "s3cr@t/word"
QUOTED = "s3cr%40t%2Fword"


def missing() -> str | None:
    """Why there can be no server; None where there can be one."""
    if find_spec("psycopg") is None:
        return 'psycopg is not installed: pip install "psycopg[binary]"'
    if _programs() is None:
        return "no PostgreSQL server here: apt-get install postgresql"
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        return "PostgreSQL does not run as root, and there is no setpriv to be somebody else"
    return None


class Server:
    """A server with an empty database, which may be stopped and started again; initdb takes about two seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"postgresql+psycopg://{USER}:{QUOTED}@127.0.0.1:{self._port}/postgres"
        _initialised(folder)
        self.start()

    def start(self) -> None:
        self._process = _started(self._folder, self._port)

    def stop(self) -> None:
        """It does not wait for its clients."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)


@contextmanager
def serving() -> Iterator[Server]:
    """A server that ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="paretoprune-postgres-"))
    try:
        server = Server(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _initialised(folder: Path) -> None:
    programs = _programs()
    assert programs is not None
    (folder / "password").write_text(PASSWORD)
    if os.geteuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres")
    login = ["-U", USER, "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
    made = [
        *_somebody(),
        str(programs / "initdb"),
        "-D",
        str(folder / "data"),
        *login,
        "--no-sync",
        "--locale=C",
        "--encoding=UTF8",
    ]
    subprocess.run(made, check=True, capture_output=True, cwd=folder)


def _started(folder: Path, port: int) -> subprocess.Popen[bytes]:
    programs = _programs()
    assert programs is not None
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", "fsync=off", "-k", str(folder)]
    with (folder / "log").open("wb") as log:
        started = [*_somebody(), str(programs / "postgres"), "-D", str(folder / "data"), *settings]
        server = subprocess.Popen(started, stdout=log, stderr=log, cwd=folder)
    deadline = time.monotonic() + 30
    while subprocess.run([programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode:
        assert server.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.1)
    return server


def _programs() -> Path | None:
    """Debian keeps initdb and postgres off the path, a folder for every version."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


def _somebody() -> list[str]:
    """PostgreSQL refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
