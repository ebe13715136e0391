"""Failures: which are retried, which end the search, and what a hung or killed worker leaves behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from search.errors import SearchFailing, TrialFailed
from search.study import Parts, Study
from search.testing.contracts import drain, job_in, trial_in
from search.testing.known_front import PRELOAD, FailingEvaluator, KnownFront, KnownFrontEvaluator
from search.testing.simulated import Cut, InlineEngine
from search.trial import Candidate, Failure, FailureKind, Measurement, ScreeningLimit
from search.workers.child_process import classify
from search.workers.engine import Finished
from search.workers.heartbeat import ActivityMonitor
from search.workers.local import LocalEngine
from tests.search.conftest import MakeStudy
from tests.waiting import is_gone, until


class Flaky(KnownFrontEvaluator):
    """Trial `number` fails as `kind` says, `times` times; `tries` counts its evaluations."""

    number = 2

    def __init__(self, kind: str, times: int, cut_at_try: int = 0) -> None:
        super().__init__()
        self.__dict__.update(kind=kind, times=times, tries=0, cut_at_try=cut_at_try)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: ScreeningLimit | None = None
    ) -> Measurement:
        if number == self.number:
            self.__dict__["tries"] += 1
            if self.__dict__["tries"] == self.__dict__["cut_at_try"]:
                raise Cut("power")
            if self.__dict__["tries"] <= self.__dict__["times"]:
                raise TrialFailed(self.__dict__["kind"], "bad luck")
        return super().evaluate(candidate, number, seed, work_dir)


def states(study: Study) -> list[str]:
    return [trial.state.value for trial in study.trials()]


@pytest.mark.parametrize("kind", ["signal", "crash", "out_of_memory", "stuck", "disk"])
def test_bad_luck_is_retried_once(kind: str, make_study: MakeStudy) -> None:
    flaky = Flaky(kind, 1)
    study = make_study(flaky, **{"search.trials": 6}).search()
    assert states(study) == ["complete"] * 6 and flaky.__dict__["tries"] == 2
    assert (study.record.path / "retried" / "0002.txt").read_text() == f"{kind}: bad luck\n"


def test_after_the_second_time_the_study_goes_on(make_study: MakeStudy) -> None:
    flaky = Flaky("signal", 99)
    study = make_study(flaky, **{"search.trials": 6}).search()
    assert states(study) == ["complete", "complete", "failed", "complete", "complete", "complete"]
    assert flaky.__dict__["tries"] == 2


@pytest.mark.parametrize("kind", ["error", "not_finite", "timeout"])
def test_what_would_come_again_is_not_retried(kind: str, make_study: MakeStudy) -> None:
    flaky = Flaky(kind, 99)
    assert states(make_study(flaky, **{"search.trials": 4}).search())[2] == "failed"
    assert flaky.__dict__["tries"] == 1


def test_there_is_no_third_time_after_a_resume(make_study: MakeStudy) -> None:
    flaky = Flaky("signal", 99, cut_at_try=2)
    with pytest.raises(Cut):
        make_study(flaky, **{"search.trials": 4}).search()
    assert states(make_study(flaky, **{"search.trials": 4}).search())[2] == "failed"
    assert flaky.__dict__["tries"] == 3, "cut, and then the second time over again"


class _Forgetful(InlineEngine[Any]):
    """Says of trial 1 that its process crashed, after its result was written: a worker killed before its last word."""

    def poll(self, wait_s: float) -> tuple[Finished[Any], ...]:
        ended = super().poll(wait_s)
        crash = Failure(FailureKind.SIGNAL, "ended by SIGKILL")
        return tuple(Finished(one.number, crash) if one.number == 1 else one for one in ended)


def test_a_result_that_was_left_counts_however_its_worker_ended(workplace: Path) -> None:
    def engine(spec: Any, prepared: Any) -> InlineEngine[Any]:
        return _Forgetful()

    parts = Parts(prepare=KnownFront(), engine=engine)
    study = Study("study.yaml", parts=parts, **{"search.trials": 3}).search()
    assert states(study) == ["complete"] * 3
    assert not (study.record.path / "retried").exists()


def test_most_recent_trials_failing_for_one_reason_stop_the_search(make_study: MakeStudy) -> None:
    failing = FailingEvaluator({number: "raise" for number in range(8, 60)})
    options = {"search.trials": 60}
    with pytest.raises(SearchFailing, match=r"6 of the last 10 trials failed for the same reason: error: ") as caught:
        make_study(failing, **options).search()
    assert "paretoprune resume" in str(caught.value)
    study = make_study(**{"search.trials": 20}).search()
    assert states(study)[8:14] == ["failed"] * 6 and states(study)[14:] == ["complete"] * 6


def test_failures_of_many_kinds_do_not_stop_it(make_study: MakeStudy) -> None:
    ways = {number: ("raise", "nan", "babble")[number % 2] for number in range(4, 20) if number % 4}
    study = make_study(FailingEvaluator(ways), **{"search.trials": 20}).search()
    assert states(study).count("failed") == len(ways)


def orphaning(way: Callable[[], None], work_dir: Path) -> None:
    """Start a process of its own, as a data loader is, and then end in the given way."""
    child = subprocess.Popen(["sleep", "600"])
    (work_dir / "loader").write_text(str(child.pid))
    way()


def stuck_here() -> None:
    time.sleep(600)


def no_memory() -> None:
    bytearray(1 << 60)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def on_the_whole() -> None:
    pass


def test_worker_ends_in_any_way_its_failure_has_a_type_and_its_loaders_end(tmp_path: Path) -> None:
    ways = (stuck_here, no_memory, killed, on_the_whole)
    engine = LocalEngine[None](workers=4, preload=PRELOAD)
    for number, way in enumerate(ways):
        stuck_s = 5.0 if way is stuck_here else 60.0  # a busy machine takes longer than that to begin
        engine.submit(job_in(tmp_path, number, partial(orphaning, way), stuck_s=stuck_s))
    outcomes = {one.number: one.outcome for one in drain(engine, 4)}
    kinds = [one.kind if isinstance(one := outcomes[number], Failure) else None for number in range(4)]
    assert kinds == [FailureKind.STUCK, FailureKind.OUT_OF_MEMORY, FailureKind.SIGNAL, None]
    assert "search.stuck_minutes" in str(outcomes[0]) and "often the kernel, out of memory" in str(outcomes[2])
    assert "in stuck_here" in (tmp_path / "0000" / "train.log").read_text(), "where it hung"
    loaders = [int((tmp_path / f"{number:04d}" / "loader").read_text()) for number in range(4)]
    until(lambda: all(is_gone(pid) for pid in loaders), "a loader outlived its trial")


def test_only_changes_are_signs_of_life(tmp_path: Path) -> None:
    activity, file = ActivityMonitor(tmp_path, since=100.0), tmp_path / "progress.json"
    assert activity.silent_s(130.0) == 30.0
    file.write_text("{}")
    assert activity.silent_s(140.0) == 0.0
    assert activity.silent_s(190.0) == 50.0
    os.utime(file, (0, 0))  # the clock on the wall went back half a century
    assert activity.silent_s(200.0) == 0.0
    assert activity.silent_s(201.0) == 1.0


def test_a_stopped_worker_is_named_and_ended(tmp_path: Path) -> None:
    engine: LocalEngine[Any] = LocalEngine(1, preload=PRELOAD)
    engine.submit(replace(trial_in(tmp_path, 0, FailingEvaluator({0: "stop"})), stuck_s=3.0))
    (finished,) = drain(engine, 1)
    assert finished.outcome.kind == FailureKind.STUCK
    assert "its process was stopped by a signal (SIGSTOP, or a debugger)" in finished.outcome.message


@pytest.mark.parametrize(
    "text",
    [
        "unable to write to file </torch_17_0_0>: No space left on device (28), shared memory",
        "DataLoader worker (pid 17) is killed by signal: Bus error. It is possible that workers are out of",
    ],
)
def test_no_room_in_shared_memory_is_no_full_disk(text: str) -> None:
    failure = classify(RuntimeError(text))
    assert failure.kind == FailureKind.OUT_OF_MEMORY and "/dev/shm" in failure.message


_LOADERS = """\
import torch
from torch.utils.data import DataLoader
from search.workers.child_process import classify
images = [torch.zeros(1 << 20) for _ in range(8)]
try:
    print(sum(1 for _ in DataLoader(images, batch_size=2, num_workers=1)))
except Exception as error:
    print(classify(error))
"""


def test_shared_memory_that_is_really_full_is_named() -> None:
    """In a /dev/shm of 1 MB of its own, where this user may mount one."""
    mounted = "mount -t tmpfs -o size=1m tmpfs /dev/shm && exec " + shlex.join([sys.executable, "-c", _LOADERS])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", mounted], capture_output=True, text=True, env=environment
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system of our own here: {done.stderr.strip().splitlines()[0]}")
    assert "OUT_OF_MEMORY" in done.stdout and "/dev/shm" in done.stdout, done.stdout + done.stderr


def test_other_failures_have_a_type() -> None:
    from pruning.errors import DivergedError, RecoveryError

    halved = RecoveryError("out of memory: Ultralytics halved the batch from 16 to 8, so this run is not comparable.")
    assert classify(halved).kind == FailureKind.OUT_OF_MEMORY
    assert classify(DivergedError("the loss became nan at step 0")).kind == FailureKind.NOT_FINITE
    assert classify(OSError(28, "No space left on device")).kind == FailureKind.DISK
    assert classify(RuntimeError("write failed: No space left on device")).kind == FailureKind.DISK
