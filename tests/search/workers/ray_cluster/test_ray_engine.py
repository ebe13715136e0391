"""The worker's side of a job without a cluster; `tests/scenarios/ray` has the engine on one."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.testing.contracts import job_in, trial_in
from search.testing.known_front import PRELOAD
from search.trial import Failure, FailureKind
from search.workers.ray_cluster.file_transfer import bring_home
from search.workers.ray_cluster.mailbox import Mailbox, News

ray_engine = pytest.importorskip("search.workers.ray_cluster.ray_engine", reason="needs Ray: pip install ray[tune]")


class _Near:
    """A mailbox in this process, called as an actor is."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self.mailbox, name))


def _names(work_dir: Path) -> dict[int, str]:
    (work_dir / "own.txt").write_text("own")
    return {17: "of any kind"}


def _fail(work_dir: Path) -> None:
    raise MemoryError("CUDA out of memory")


def test_a_worker_takes_jobs_of_any_kind_by_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine.ray, "get", lambda found: pickle.loads(found) if isinstance(found, bytes) else found)
    monkeypatch.setenv(ray_engine.THREADS, "1")  # the worker sets it for its process
    near, jobs = _Near(), [trial_in(tmp_path, 0), job_in(tmp_path, 1, _names), job_in(tmp_path, 2, _fail)]
    for job in jobs:
        near.mailbox.hand(job.number, [pickle.dumps(job)])
    worker = ray_engine._Worker.__new__(ray_engine._Worker)
    worker._logdir = str(tmp_path)
    ended = []
    for job in jobs:
        config = {"number": near.mailbox.take()[0]}
        if job.number == 0:
            worker.setup(config, mailbox=near, threads=1, preload=PRELOAD, files={})
        else:
            worker.reset_config(config)
        while not worker.step()["done"]:
            pass
        parcel = tmp_path / f"parcel-{job.number}"
        worker.save_checkpoint(str(parcel))
        near.mailbox.tell(News(job.number, ended=True, parcel=parcel))
        (news,) = near.mailbox.collect()
        ended.append(bring_home(news.parcel, job.work_dir, news.outcome))
    worker.cleanup()
    assert ended[0].digest and ended[1] == {17: "of any kind"}
    assert isinstance(ended[2], Failure) and ended[2].kind == FailureKind.OUT_OF_MEMORY
    left = [{path.name for path in job.work_dir.iterdir()} for job in jobs]
    assert left == [{"result.json", "train.log"}, {"own.txt", "train.log"}, {"error.txt", "train.log"}]
