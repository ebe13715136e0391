"""External requirements of a study: packages, a reachable storage and cluster. Checked before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from objectives.errors import BackendMissing
from search.config.spec import StudySpec
from search.config.storage_url import is_postgresql


def check_packages(spec: StudySpec) -> None:
    """Raise BackendMissing with the command that installs all missing packages."""
    if spec.search.engine == "ray":
        _need("engine: ray", "ray[tune]", "ray", "pyarrow")
        if (spec.search.address or "").startswith("ray://"):
            _need("a ray:// address", "ray[client,tune]", "grpc")
    if spec.storage is not None and is_postgresql(spec.storage):
        _need("a PostgreSQL storage", "psycopg[binary]", "psycopg")


def check_servers(spec: StudySpec) -> None:
    """Check that the storage and the cluster answer.

    Raises:
        ServerMissing: one does not. DeviceMissing: a local Ray without the GPU that a trial needs.
    """
    if spec.storage is not None and is_postgresql(spec.storage):
        from search.propose.optuna_backend.storage import ping

        ping(spec.storage)
    check_cluster(spec)


def check_cluster(spec: StudySpec) -> None:
    """Join the cluster of `engine: ray`, for the whole search. Raises as `check_servers`."""
    if spec.search.engine == "ray":
        from search.workers.ray_cluster.ray_engine import connect

        connect(spec.search, spec.device)


@contextmanager
def claimed(spec: StudySpec) -> Iterator[Callable[[], None]]:
    """Own the study exclusively; yield a function that verifies this after the storage was unreachable.

    A study in a file of the run is protected by run.lock instead.

    Raises:
        RunLocked: another coordinator owns it, from another run folder. ServerMissing: the storage does not answer.
    """
    if spec.storage is None or not is_postgresql(spec.storage):
        yield _is_claimed
        return
    from search.propose.optuna_backend.storage import claimed_on_server

    with claimed_on_server(spec.storage, spec.run_name) as renew:
        yield renew


def _is_claimed() -> None:
    """Do nothing: run.lock is held by the kernel and cannot be lost."""


def _need(what: str, package: str, *modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise BackendMissing(", ".join(missing), needed_for=what, install=f'pip install "{package}"')
