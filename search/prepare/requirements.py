"""What a study needs beside this program: packages, a storage and a cluster that answer. Asked before any work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from objectives.errors import BackendMissing
from search.config.spec import StudySpec
from search.config.storage_url import is_postgresql


def check_packages(spec: StudySpec) -> None:
    """Raises BackendMissing with the line that installs what this study needs and what is not there."""
    if spec.search.engine == "ray":
        _need("engine: ray", "ray[tune]", "ray", "pyarrow")
        if (spec.search.address or "").startswith("ray://"):
            _need("a ray:// address", "ray[client,tune]", "grpc")
    if spec.storage is not None and is_postgresql(spec.storage):
        _need("a PostgreSQL storage", "psycopg[binary]", "psycopg")


def check_servers(spec: StudySpec) -> None:
    """Make sure that the storage and the cluster answer.

    Raises:
        ServerMissing: one does not. DeviceMissing: a Ray of this machine without the GPU that a trial needs.
    """
    if spec.storage is not None and is_postgresql(spec.storage):
        from search.propose.optuna_storage import ping

        ping(spec.storage)
    check_cluster(spec)


def check_cluster(spec: StudySpec) -> None:
    """Join the cluster of `engine: ray`; the search stays in it. Raises as `check_servers`."""
    if spec.search.engine == "ray":
        from search.workers.ray_cluster.ray_engine import connect

        connect(spec.search, spec.device)


@contextmanager
def claimed(spec: StudySpec) -> Iterator[Callable[[], None]]:
    """This process alone writes the study; gives what makes sure of that again, after the storage was away. A study in
    a file of the run has run.lock for that.

    Raises:
        RunLocked: another coordinator writes it, from another run folder. ServerMissing: the storage does not answer.
    """
    if spec.storage is None or not is_postgresql(spec.storage):
        yield _is_claimed
        return
    from search.propose.optuna_storage import claimed_on_server

    with claimed_on_server(spec.storage, spec.run_name) as renew:
        yield renew


def _is_claimed() -> None:
    """run.lock is the kernel's and is not lost."""


def _need(what: str, package: str, *modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise BackendMissing(", ".join(missing), needed_for=what, install=f'pip install "{package}"')
