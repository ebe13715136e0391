"""Jobs on a Ray cluster, by Ray Tune: the only module that imports Ray.

    Loop.submit -> Mailbox -> Tune asks the Feed       -> a worker on some node: a LocalEngine with room for one job
    Loop.poll   <- Mailbox <- Tune tells the Messenger <- its folder, as a Tune checkpoint on the storage path

The coordinator alone knows the study: it asks the proposer, hands out numbered jobs, and records what comes home. Tune
decides where a job runs, and runs it once more where its node or worker was lost (`FailureConfig`); what fails inside
a job comes back typed, as on one machine, and is no failure for Tune. The mailbox is an actor because under `ray://`
Tune runs on the cluster's head, and not in this process.

Where Tune itself gives up (a storage path that was away for a minute), `Tuner.restore` goes on in this session. A
coordinator that was restarted begins a new experiment instead: study.db and each result.json say what is left to do,
and Tune's own state is a pickle, which nobody should load from a folder that others may write.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic

import pyarrow.fs
import ray
from pyarrow import ArrowException
from ray import tune
from ray.exceptions import RayError
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from search.config.sections import SearchSpec
from search.errors import ConfigError, DeviceMissing, ServerMissing
from search.evaluate.timing.progress import progress_text, show_progress
from search.evaluate.timing.threads import THREADS, share_of_cores
from search.trial import Failure, FailureKind
from search.workers.child_process import PRELOAD
from search.workers.engine import Finished, Job, T
from search.workers.local import LocalEngine
from search.workers.ray_cluster.file_transfer import bring_home, packed, unpack
from search.workers.ray_cluster.mailbox import Mailbox, News

_TICK_S = 0.05
_BEAT_S = 0.5
"""How often a worker says where its job stands, and hears that it is to stop."""
_CLOSE_S = 30.0
_RESTORES = 3
_SETTINGS = {
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
_log = logging.getLogger("search")


class _Feed(Searcher):
    """What Tune asks for the next trial: the number of a job. The proposer stays with the coordinator."""

    def __init__(self, mailbox: Any) -> None:
        super().__init__()
        self._mailbox = mailbox

    def suggest(self, trial_id: str) -> Any:
        """One; None where there is none now; FINISHED after `cancel`. Waits while Tune has nothing else to do."""
        while not ray.get(self._mailbox.is_closed.remote()):
            number, is_idle = ray.get(self._mailbox.take.remote())
            if number is not None:
                return {"number": number}
            if not is_idle:
                return None
            time.sleep(_TICK_S)
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Do nothing; the messenger reports it."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: there is no state."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: there is no state."""


class _Messenger(tune.Callback):
    """Tune's callback: forwards events of its trials to the mailbox, in order."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        """Report the progress of a trial."""
        self._tell(News(_number(trial), progress=result.get("progress", "")))

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Report a finished trial, whose folder is on the storage path."""
        self._tell(News(_number(trial), ended=True, parcel=trial.checkpoint))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """Report a trial whose worker could not be started, or was lost, more often than Tune retries."""
        self._tell(News(_number(trial), ended=True, cause=_cause(trial)))

    def _tell(self, news: News) -> None:
        ray.get(self._mailbox.tell.remote(news))


class _Closed(tune.Stopper):
    """Stops every trial after `cancel`."""

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def __call__(self, trial_id: str, result: Any) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(ray.get(self._mailbox.is_closed.remote()))


class _Worker(tune.Trainable):
    """One place for a job on some node. It runs in a child of this process, as on one machine; see `LocalEngine`."""

    def setup(self, config: dict[str, Any], **given: Any) -> None:
        """Set up a worker, which then takes one job after another. `given`: see `RayEngine._worker_class`."""
        os.environ[THREADS] = str(given["threads"])
        unpack(given["files"])
        self._mailbox, self._engine = given["mailbox"], LocalEngine[Any](preload=given["preload"])
        self._begin(config["number"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next job."""
        self._drop()
        self._begin(new_config["number"])
        return True

    def _begin(self, number: int) -> None:
        job: Job[Any] = ray.get(ray.get(self._mailbox.job.remote(number))[0])
        self._finished: Finished[Any] | None = None
        self._beat_s = 0.0
        self._folder = Path(tempfile.mkdtemp(prefix=f"job-{number}-", dir=self.logdir))
        self._engine.submit(replace(job, work_dir=self._folder))

    def step(self) -> dict[str, Any]:
        """Half a second of the job, less where it ends. The first call only says that it has begun."""
        for finished in self._engine.poll(self._beat_s):
            self._finished = finished
        self._beat_s = _BEAT_S
        return {"done": self._finished is not None, "progress": progress_text(self._folder)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The job's folder, which Tune carries to the storage path; the outcome goes to the mailbox."""
        if self._finished is not None:
            shutil.copytree(self._folder, checkpoint_dir, dirs_exist_ok=True)
            ray.get(self._mailbox.keep.remote(self._finished.number, self._finished.outcome))

    def load_checkpoint(self, checkpoint: Any) -> None:
        """A job that is run again begins at its beginning."""

    def cleanup(self) -> None:
        self._drop()

    def _drop(self) -> None:
        self._engine.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)


class RayEngine(Generic[T]):
    """Up to `search.workers` jobs at once on a Ray cluster.

    Args:
        search: `address` of the cluster, `resources` of a job, `artefacts`: where all nodes can write.
        run: the run's folder; artefacts travel through `ray/` in it where the study names no other place.
        device: of the jobs: one that is a GPU needs a GPU of the cluster.
        files: files that a worker may lack.

    Raises:
        ServerMissing: no cluster there. DeviceMissing: it can never run a job of this size.
    """

    def __init__(
        self,
        search: SearchSpec,
        run: Path,
        device: str = "cpu",
        *,
        preload: Sequence[str] = PRELOAD,
        files: Sequence[Path] = (),
    ) -> None:
        self._workers, self._preload, self._files = search.workers, preload, files
        self._needs = connect(search, device)
        self._storage = search.artefacts or str(run.resolve() / "ray")
        self._open: dict[int, Job[T]] = {}
        self._begun: set[int] = set()
        self._again: set[int] = set()
        self._thread: threading.Thread | None = None

    @property
    def workers(self) -> int:
        return self._workers

    def submit(self, job: Job[T]) -> None:
        with _translated():
            if self._thread is None:
                self._start()
            self._open[job.number] = job
            self._hand(job)

    def _hand(self, job: Job[T]) -> None:
        """Within a list Ray does not load the job on the way: only its worker needs what the job is made of."""
        ray.get(self._mailbox.hand.remote(job.number, [ray.put(job)]))

    def poll(self, wait_s: float) -> tuple[Finished[T], ...]:
        """See `Engine.poll`. Raises ServerMissing where the cluster has gone."""
        end = time.monotonic() + wait_s
        while self._open:
            with _translated():
                told = [self._take(news) for news in ray.get(self._mailbox.collect.remote())]
            finished = tuple(one for one in told if one is not None)
            if finished or time.monotonic() >= end:
                return finished
            self._mend()
            time.sleep(_TICK_S)
        return ()

    def cancel(self) -> None:
        self._open.clear()
        self._begun.clear()
        self._again.clear()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with suppress(Exception):  # a cluster that has gone has dropped everything already
            ray.get(self._mailbox.close.remote())
            thread.join(_CLOSE_S)
        _discard(self._experiment)

    def _start(self) -> None:
        name = f"paretoprune-{uuid.uuid4().hex[:12]}"
        self._mailbox, self._restores = _local_mailbox(), 0
        self._experiment = _below(self._storage, name)
        self._trainable = self._worker_class()
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self._workers)
        with self._reachable():
            tuner = self._tuner(name)
        self._fit(tuner)

    def _tuner(self, name: str) -> tune.Tuner:
        return tune.Tuner(
            self._trainable,
            tune_config=tune.TuneConfig(
                search_alg=_Feed(self._mailbox), num_samples=-1, reuse_actors=True, trial_dirname_creator=_folder_name
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=self._storage,
                failure_config=tune.FailureConfig(max_failures=1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True),
                stop=_Closed(self._mailbox),
                callbacks=[_Messenger(self._mailbox)],
                verbose=0,
            ),
        )

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ArrowException) as error:
            raise ConfigError(
                f"nothing can be written there: {_first_line(error)}",
                where=f"search.artefacts: {self._storage}",
                expected="a folder or an URI that this machine and every node can write",
            ) from error

    def _worker_class(self) -> Any:
        given = {"mailbox": self._mailbox, "preload": tuple(self._preload), "files": packed(self._files)}
        threads = max(1, int(self._needs["cpu"]))
        return tune.with_resources(tune.with_parameters(_Worker, threads=threads, **given), self._needs)

    def _fit(self, tuner: tune.Tuner) -> None:
        def fit() -> None:
            try:
                tuner.fit()
            except BaseException as error:  # whatever it was: `_mend` sees that the thread has ended
                _log.warning("Ray Tune ended: %s", _first_line(error))

        self._thread = threading.Thread(target=fit, name="ray-tune", daemon=True)
        self._thread.start()

    def _mend(self) -> None:
        """Restore Tune after it gave up; jobs without an answer are submitted again."""
        if self._thread is None or self._thread.is_alive():
            return
        if self._restores == _RESTORES:
            raise _gone("Ray Tune gave up; search.log says why")
        self._restores += 1
        with _translated():
            ray.get(self._mailbox.clear.remote())
            for job in self._open.values():
                self._hand(job)
            self._fit(tune.Tuner.restore(self._experiment, self._trainable, resume_unfinished=False))

    def _take(self, news: News) -> Finished[T] | None:
        """News of a job that nobody waits for any more (Tune was restored, or it was cancelled) is no news."""
        job = self._open.get(news.number)
        if job is None:
            return None
        if not news.ended:
            self._begun.add(job.number)
            show_progress(job.work_dir, news.progress)
            return None
        if news.parcel is None and not {job.number} & (self._begun | self._again):
            # Its worker had died while it waited for work. Tune counts that twice and does not try again (ran).
            self._again.add(job.number)
            self._hand(job)
            return None
        del self._open[job.number]
        self._begun.discard(job.number)
        self._again.discard(job.number)
        return Finished(job.number, _outcome(job.work_dir, news))


def connect(search: SearchSpec, device: str) -> dict[str, float]:
    """Join the cluster, once per process; return a trial's resources: {"cpu", "gpu"}.

    Without an address, start a local Ray of the size that the trials need.

    Raises:
        ServerMissing: no cluster there. DeviceMissing: a local Ray without such a GPU.
    """
    cpu = search.resources.cpu or (1.0 if search.address else float(share_of_cores(search.workers)))
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if not ray.is_initialized():
        _init(search.address, math.ceil(cpu * search.workers))
    gpu = search.resources.gpu
    needs = {"cpu": cpu, "gpu": _gpus(device) if gpu is None else gpu}
    _check_size(needs, is_own=search.address is None)
    return needs


def _init(address: str | None, cpus: int) -> None:
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # the terminal belongs to the progress line
    own = {"address": "local", "num_cpus": max(cpus, os.cpu_count() or 1), "include_dashboard": False}
    options: dict[str, Any] = own if address is None else {"address": address}
    with _signals_kept():
        try:
            ray.init(**options, log_to_driver=False, configure_logging=False)
        except Exception as error:
            raise ServerMissing(
                f"no Ray cluster: {_first_line(error)}",
                where=f"search.address: {address or 'a Ray of this machine'}",
                expected="auto on a machine of the cluster, or ray://HOST:10001",
                next_command="ray start --head",
            ) from error


def _gpus(device: str) -> float:
    """Return the GPUs of one trial: as many as the study names; for `auto` one if the cluster has any."""
    if device == "auto":
        return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
    return float(sum(part.strip().isdecimal() for part in device.removeprefix("cuda:").split(",")))


def _check_size(needs: dict[str, float], *, is_own: bool) -> None:
    """Refuse a trial that fits no node and would wait for ever. A cluster may still grow, so there it is a warning."""
    widest = {kind: max((_room(node, kind) for node in ray.nodes()), default=0.0) for kind in ("cpu", "gpu")}
    missing = next((kind for kind in needs if needs[kind] > widest[kind]), None)
    if missing is None:
        return
    what = f"a trial needs {needs[missing]:g} {missing.upper()}, and the widest node has {widest[missing]:g}"
    if is_own:
        raise DeviceMissing(what, where="search.resources and device", expected="what one machine has")
    _log.warning("%s: trials wait until the cluster has such a node", what)


def _room(node: dict[str, Any], kind: str) -> float:
    return float(node["Resources"].get(kind.upper(), 0.0)) if node["Alive"] else 0.0


def _local_mailbox() -> Any:
    """Create the mailbox on the node that the coordinator is connected to, for the lifetime of that connection."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


def _outcome(work_dir: Path, news: News) -> Any:
    if news.parcel is None:
        return Failure(FailureKind.LOST, f"its worker or node was lost twice: {news.cause}")
    with tempfile.TemporaryDirectory(prefix=".parcel-", dir=work_dir) as folder:
        try:
            news.parcel.to_directory(folder)
        except OSError as error:
            return Failure(
                FailureKind.ERROR, f"its files did not come home ({_first_line(error)}); see search.artefacts"
            )
        outcome = bring_home(Path(folder), work_dir, news.outcome)
    with suppress(OSError):
        news.parcel.filesystem.delete_dir(news.parcel.path)
    return outcome


def _below(place: str, name: str) -> str:
    """Return a folder's path or URI with one more part; what follows a `?` names the server and stays at the end."""
    folder, mark, server = place.partition("?") if "://" in place else (place, "", "")
    return f"{folder.rstrip('/')}/{name}{mark}{server}"


def _discard(experiment: str) -> None:
    """Delete unfinished transfers on the storage path; all results have been copied."""
    with suppress(Exception):
        filesystem, path = pyarrow.fs.FileSystem.from_uri(experiment)
        filesystem.delete_dir(path)
        if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
            Path(path).parent.rmdir()  # fails, as it should, while anything else is in it


def _folder_name(trial: Any) -> str:
    return f"{_number(trial):04d}-{trial.trial_id}"


def _number(trial: Any) -> int:
    return int(trial.config["number"])


def _cause(trial: Any) -> str:
    with suppress(Exception):
        return _first_line(trial.get_error())
    return "Ray does not say why"


def _first_line(error: object) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    return f"{type(error).__name__}: {lines[-1].strip()}"[:300]


def _gone(what: str) -> ServerMissing:
    return ServerMissing(what, where="search.address", next_command="paretoprune resume goes on where it ended")


@contextmanager
def _translated() -> Iterator[None]:
    """Translate Ray's errors to ServerMissing: nothing is lost, and the run can be resumed."""
    try:
        yield
    except (RayError, ConnectionError) as error:
        raise _gone(f"the Ray cluster has gone: {_first_line(error)}") from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the signal handlers that Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
