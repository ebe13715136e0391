"""`paretoprune dashboard`: socket, access token, printed addresses, and optuna-dashboard."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from objectives.errors import BackendMissing
from search.config.storage_url import usable
from search.errors import ConfigError
from search.run_folder.record import RunRecord

LEAST_TOKEN = 16
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Say = Callable[[str], None]


def serve(runs: Sequence[Path], host: str, port: int, token: str, *, optuna: bool = False, say: Say = print) -> None:
    """Serve until Ctrl-C.

    Args:
        token: empty for none (only on the loopback); "auto" generates one.

    Raises:
        ConfigError: a non-loopback address without a token; a port that is taken.
        BackendMissing: fastapi, uvicorn or optuna-dashboard is not installed.
    """
    need("fastapi", "uvicorn", *(("optuna_dashboard",) if optuna else ()))
    token = checked_token(host, token)
    with listening(host, port) as listener:
        own = listener.getsockname()[1]  # port 0 took a free one
        with beside(runs, host, own, say) if optuna else _nothing():
            say(f"dashboard: {address(host, own, token)}   (Ctrl-C ends it)")
            _run(runs, host, listener, token)


def need(*modules: str) -> None:
    """Raise BackendMissing with the command that installs the missing modules."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        packages = [name.replace("_", "-") for name in missing]
        raise BackendMissing(
            ", ".join(packages), needed_for="the dashboard", install=f"pip install {' '.join(packages)}"
        )


def checked_token(host: str, token: str) -> str:
    """Return the access token. Raises ConfigError if others could reach the page without one."""
    if token == "auto":
        return secrets.token_urlsafe(24)
    if not token and host not in _LOOPBACK:
        raise ConfigError(
            f"{host} can be reached from other machines",
            where="--host",
            expected="a token, because a reader of the page can start exports",
            next_command=f"paretoprune dashboard --host {host} --token auto",
        )
    if token and len(token) < LEAST_TOKEN:
        raise ConfigError(
            f"the token has {len(token)} characters", where="--token", expected=f"at least {LEAST_TOKEN}, or auto"
        )
    return token


def address(host: str, port: int, token: str = "") -> str:
    """Return the address to open in a browser."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket on that address; port 0 chooses a free one. Raises ConfigError if it is unavailable."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as found:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, port))
            found.listen(128)  # from now on a browser waits instead of being refused
        except (OSError, OverflowError, UnicodeError) as error:  # the latter two: no port, no name of a host
            raise ConfigError(
                f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
                where="--host, --port",
                expected="a name of this machine, and a port from 1 to 65535, or 0 for a free one",
                next_command=f"paretoprune dashboard --port {port + 1 if 0 < port < 65535 else 0}",
            ) from error
        yield found


def optuna_command(run: Path, host: str, port: int) -> list[str]:
    """Return the command line of optuna-dashboard on the storage of a run."""
    record = RunRecord.existing(run)
    named = record.read_args()[0].get("storage")
    storage = usable(named) if named else f"sqlite:///{record.path / 'study.db'}"
    program = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent)) or "optuna-dashboard"
    return [program, str(storage), "--host", host, "--port", str(port)]


@contextmanager
def beside(runs: Sequence[Path], host: str, port: int, say: Say = print) -> Iterator[None]:
    """Run optuna-dashboard on the next port, on the loopback only, since it has no token; it ends with us."""
    near = host if host in _LOOPBACK else "127.0.0.1"
    process = subprocess.Popen(
        optuna_command(runs[0], near, port + 1), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    say(f"optuna-dashboard: {address(near, port + 1)}")
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def server_of(app: Any) -> Any:
    """Return a uvicorn server that closes its event streams first, so that they do not delay the shutdown."""
    import uvicorn

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.closing.set()
            await super().shutdown(sockets)

    return Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False)
    )


def _run(runs: Sequence[Path], host: str, listener: socket.socket, token: str) -> None:
    from search.present.dashboard.access import ListenAddress
    from search.present.dashboard.app import make_app

    app = make_app(runs, ListenAddress(host, listener.getsockname()[1], token))
    server_of(app).run(sockets=[listener])
