"""Trials on a Ray cluster of several nodes, all on this machine: the contracts, and whatever dies in mid-trial."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.config.sections import ResourcesSpec, SearchSpec
from search.errors import ConfigError, RunLocked, ServerMissing
from search.evaluate.timing.progress import read_progress
from search.study import Parts, Study
from search.testing.contracts import EngineContract, Make, SearchContract, candidate_of, drain, trial_in
from search.testing.known_front import (
    PRELOAD,
    KnownFront,
    KnownFrontEvaluator,
    WitnessedEvaluator,
    ancestors,
    known_measurement,
)
from search.trial import Failure, FailureKind, TrialState
from search.workers.engine import Engine
from search.workers.ray_cluster.mailbox import News
from tests.waiting import until

ray_tune = pytest.importorskip("search.workers.ray_cluster.ray_engine", reason="needs Ray: pip install ray[tune]")
ROOT = Path(__file__).resolve().parents[3]
_HEAD = {"num_cpus": 0, "include_dashboard": False}
_SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
_SCRIPT = """\
from pathlib import Path
from search.study import Parts, Study
from search.testing.known_front import KnownFront, KnownFrontEvaluator, WitnessedEvaluator
evaluator = WitnessedEvaluator(Path("begun").resolve(), KnownFrontEvaluator(sleep_s=1.0))
Study("study.yaml", parts=Parts(prepare=KnownFront(evaluator)), **{keys}).search()
"""


class Nodes:
    """A head that runs nothing, and nodes with room for one trial each."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={**_HEAD, "_system_config": _SOON})
        for _ in range(count):
            self.add()

    @property
    def keys(self) -> dict[str, str]:
        """The two keys that a study needs."""
        return {"search.engine": "ray", "search.address": self.cluster.address}

    def add(self) -> None:
        self.cluster.add_node(num_cpus=1)

    def kill_among(self, above: list[int]) -> None:
        """Kill the node that is among a process's ancestors, without a warning."""
        (node,) = [node for node in self.cluster.worker_nodes if _raylet(node) in above]
        self.cluster.remove_node(node, allow_graceful=False)

    def shutdown(self) -> None:
        import ray

        ray.shutdown()
        self.cluster.shutdown()


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:  # what every node of a cluster must know of an S3 server
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        found = Nodes(2)
        yield found
        found.shutdown()


@pytest.fixture
def bucket() -> Iterator[tuple[Any, str]]:
    """A bucket of an S3 server on this machine: its client, and the URI of a folder in it."""
    boto3 = pytest.importorskip("boto3", reason="needs an S3 server: pip install moto[server]")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="runs")
    yield client, f"s3://runs/studies?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    server.stop()


@pytest.fixture
def make(nodes: Nodes, tmp_path: Path) -> Iterator[Make]:
    made: list[Engine[Any]] = []

    def make(workers: int) -> Engine[Any]:
        search = SearchSpec(engine="ray", address=nodes.cluster.address, workers=workers)
        made.append(ray_tune.RayEngine(search, tmp_path / "run", preload=PRELOAD))
        return made[-1]

    yield make
    for engine in made:
        engine.cancel()


@pytest.mark.slow
class TestRayEngine(EngineContract):
    """The suite of every engine."""


@pytest.mark.slow
class TestRaySearch(SearchContract):
    @pytest.fixture
    def keys(self, nodes: Nodes) -> dict[str, str]:
        return nodes.keys


def _states(run: Path) -> list[tuple[int, str]]:
    """(number, state) of every trial in study.db."""
    with sqlite3.connect(run / "study.db") as database:
        return list(database.execute("SELECT number, state FROM trials ORDER BY number"))


def _pid(begun: Path) -> int:
    return int(begun.name.partition("-")[2])


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_files_come_home_and_a_worker_lost_between_two_trials_costs_none(
    nodes: Nodes, make: Make, tmp_path: Path
) -> None:
    evaluator = WitnessedEvaluator(tmp_path / "begun", KnownFrontEvaluator(sleep_s=1.5))
    engine, job = make(1), trial_in(tmp_path, 0, evaluator)
    engine.submit(job)
    seen, above = set[str](), list[int]()
    while not (ended := engine.poll(0.1)):
        seen.add(read_progress(job.work_dir).phase)
        above = above or [above for path in evaluator.folder.glob("0-*") for above in ancestors(_pid(path))]
    assert ended[0].outcome == known_measurement(candidate_of(0))
    assert "recover" in seen
    assert (job.work_dir / "note.txt").read_text() == "trial 0"
    assert {path.name for path in job.work_dir.iterdir()} == {"note.txt", "progress.json", "result.json", "train.log"}
    nodes.kill_among(above)
    until(lambda: not Path(f"/proc/{above[1]}").exists())  # the worker, which outlives its node for a moment
    engine.submit(trial_in(tmp_path, 1, evaluator))
    (finished,) = drain(engine, 1)
    nodes.add()
    assert finished.number == 1 and not isinstance(finished.outcome, Failure)
    assert evaluator.begun(1) == 1
    engine.cancel()
    assert not (tmp_path / "run" / "ray").exists(), "what travelled is left on the storage path"


@pytest.mark.slow
def test_files_come_home_by_way_of_an_s3_server(
    nodes: Nodes, bucket: tuple[Any, str], workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    client, uri = bucket
    keys = {**nodes.keys, "search.workers": 2, "search.trials": 4, "search.artefacts": uri}
    study = Study("study.yaml", parts=Parts(prepare=KnownFront(KnownFrontEvaluator(sleep_s=0.5))), **keys)
    study.search()
    assert _states(study.record.path) == [(number, "COMPLETE") for number in range(4)]
    folders = [study.record.trial_dir(number) for number in range(4)]
    assert all((folder / "result.json").is_file() and (folder / "train.log").is_file() for folder in folders)
    assert not (study.record.path / "ray").exists()
    left = client.list_objects_v2(Bucket="runs").get("Contents", [])
    assert [one["Key"] for one in left if one["Size"]] == [], "what travelled is left in the bucket"


@pytest.mark.slow
def test_a_lost_worker_is_replaced_once_and_then_is_a_failure(make: Make, tmp_path: Path) -> None:
    evaluator = WitnessedEvaluator(tmp_path / "begun", losses={0: 1, 1: 2})
    engine, outcomes = make(1), []
    for number in range(2):
        engine.submit(trial_in(tmp_path, number, evaluator))
        outcomes += [finished.outcome for finished in drain(engine, 1)]
    replaced, lost = outcomes
    assert not isinstance(replaced, Failure)
    assert isinstance(lost, Failure) and lost.kind == FailureKind.LOST and "lost twice" in lost.message
    assert [evaluator.begun(number) for number in range(2)] == [2, 2]


def test_a_node_that_dies_in_mid_trial_loses_nothing_and_doubles_nothing(nodes: Nodes, workplace: Path) -> None:
    evaluator = WitnessedEvaluator(workplace / "begun", KnownFrontEvaluator(), stalls=(1,))
    keys = {**nodes.keys, "search.workers": 2, "search.trials": 4}
    study = Study("study.yaml", parts=Parts(prepare=KnownFront(evaluator)), **keys)

    def kill() -> None:
        until(lambda: evaluator.begun(1))
        nodes.kill_among(ancestors(_pid(next(evaluator.folder.glob("1-*")))))

    killer = threading.Thread(target=kill)
    killer.start()
    study.search()
    killer.join()
    nodes.add()
    assert [(trial.number, trial.state) for trial in study.trials()] == [(n, TrialState.COMPLETE) for n in range(4)]
    assert _states(study.record.path) == [(number, "COMPLETE") for number in range(4)]
    assert evaluator.begun(1) == 2
    assert [evaluator.begun(number) for number in (0, 2, 3)] == [1, 1, 1]


@pytest.mark.slow
def test_a_killed_coordinator_loses_nothing_and_its_run_is_locked_until_then(nodes: Nodes, workplace: Path) -> None:
    keys = {**nodes.keys, "search.trials": 4}
    (workplace / "script.py").write_text(_SCRIPT.format(keys=keys))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (workplace / "log.txt").open("w") as log:
        coordinator = subprocess.Popen([sys.executable, "script.py"], env=environment, stdout=log, stderr=log)
    seen = WitnessedEvaluator(workplace / "begun", KnownFrontEvaluator())
    study = Study("study.yaml", parts=Parts(prepare=KnownFront(seen)), **keys)
    until(lambda: seen.begun(2) or coordinator.poll() is not None)
    with pytest.raises(RunLocked, match=f"pid {coordinator.pid} on"):
        study.search()
    coordinator.send_signal(signal.SIGKILL)
    coordinator.wait()
    (begun,) = seen.folder.glob("2-*")
    until(lambda: not Path(f"/proc/{_pid(begun)}").exists())
    assert not (study.record.trial_dir(2) / "result.json").exists(), "the trial outlived its coordinator"
    study.search()
    assert _states(study.record.path) == [(number, "COMPLETE") for number in range(4)]
    assert [seen.begun(number) for number in range(4)] == [1, 1, 2, 1]
    said = (workplace / "log.txt").read_text()
    assert "Traceback" not in said and "experiment" not in said, "the terminal belongs to the progress line"


@pytest.mark.slow
def test_a_search_from_outside_the_cluster(nodes: Nodes, workplace: Path) -> None:
    """Through Ray's client, as from a laptop: trials run on the nodes, and their files come home."""
    pytest.importorskip("grpc", reason="needs Ray's client: pip install ray[client]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = {**nodes.keys, "search.address": f"ray://127.0.0.1:{port}", "search.trials": 3}
    (workplace / "script.py").write_text(_SCRIPT.format(keys=keys))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    where = ["--address", nodes.cluster.address, "--host", "127.0.0.1", "--port", str(port)]
    with (workplace / "server.txt").open("w") as log:
        door = subprocess.Popen(
            [sys.executable, "-m", "ray.util.client.server", *where], env=environment, stdout=log, stderr=log
        )
    try:
        until(lambda: _answers(port))
        done = subprocess.run([sys.executable, "script.py"], env=environment, capture_output=True, text=True)
    finally:
        door.kill()
        door.wait()
    assert done.returncode == 0, done.stderr[-2000:] + (workplace / "server.txt").read_text()[-2000:]
    study = Study("study.yaml", parts=Parts(prepare=KnownFront()), **keys)
    assert _states(study.record.path) == [(number, "COMPLETE") for number in range(3)]
    assert all((study.record.trial_dir(number) / "result.json").is_file() for number in range(3))


@pytest.mark.slow
def test_where_tune_gives_up_it_is_restored(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from ray.tune.execution.tune_controller import TuneController

    faults = iter([OSError("the storage path was away")])
    checkpoint = TuneController.checkpoint

    def failing(self: Any, *arguments: Any, **keys: Any) -> None:
        if evaluator.begun(0):
            for fault in faults:
                raise fault
        checkpoint(self, *arguments, **keys)

    monkeypatch.setattr(TuneController, "checkpoint", failing)
    evaluator = WitnessedEvaluator(tmp_path / "begun", KnownFrontEvaluator(sleep_s=0.5))
    engine = make(1)
    engine.submit(trial_in(tmp_path, 0, evaluator))
    (finished,) = drain(engine, 1)
    assert not isinstance(finished.outcome, Failure)
    assert engine.poll(0.5) == ()
    assert "the storage path was away" in caplog.text


def test_files_that_do_not_come_home_are_a_failure(tmp_path: Path) -> None:
    class Away:
        def to_directory(self, folder: str) -> None:
            raise FileNotFoundError("/elsewhere/0000")

    outcome = ray_tune._outcome(tmp_path, News(0, ended=True, parcel=Away()))
    assert isinstance(outcome, Failure) and "search.artefacts" in outcome.message


def test_a_cluster_that_does_not_answer_is_named(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_tune.ray, "is_initialized", lambda: False)

    def refused(**options: Any) -> None:
        raise ConnectionError(f"nobody at {options['address']}")

    monkeypatch.setattr(ray_tune.ray, "init", refused)
    with pytest.raises(ServerMissing, match=r"nobody at 10\.0\.0\.9") as caught:
        ray_tune.connect(SearchSpec(engine="ray", address="10.0.0.9:6379"), "cpu")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("resources", "device", "needs"),
    [
        ({}, "cpu", {"cpu": 1.0, "gpu": 0.0}),
        ({"cpu": 4, "gpu": 0.25}, "0", {"cpu": 4.0, "gpu": 0.25}),
        ({}, "cuda:0,1", {"cpu": 1.0, "gpu": 2.0}),
        ({}, "auto", {"cpu": 1.0, "gpu": 0.0}),
    ],
)
def test_what_a_trial_needs(nodes: Nodes, resources: dict[str, float], device: str, needs: dict[str, float]) -> None:
    search = SearchSpec(engine="ray", address=nodes.cluster.address, resources=ResourcesSpec(**resources))
    assert ray_tune.connect(search, device) == needs


def test_a_place_that_cannot_be_written_is_named(nodes: Nodes, tmp_path: Path) -> None:
    search = SearchSpec(engine="ray", address=nodes.cluster.address, artefacts="nowhere://bucket/study")
    engine = ray_tune.RayEngine(search, tmp_path / "run", preload=PRELOAD)
    with pytest.raises(ConfigError, match="nothing can be written there") as caught:
        engine.submit(trial_in(tmp_path, 0))
    assert "search.artefacts: nowhere://bucket/study" in str(caught.value)
    engine.cancel()
