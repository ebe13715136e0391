"""A search that nobody watches: signals, a lost terminal, no terminal, a second coordinator, clocks, memory."""

from __future__ import annotations

import fcntl
import gc
import os
import pty
import signal
import subprocess
import sys
import termios
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from search.errors import Interrupted
from search.orchestration.background import DetachedFailed, detach
from search.run_folder.lock import RunLock
from search.run_folder.record import RunRecord
from search.testing.simulated import SimulatedClock
from search.trial import Trial
from tests.search.conftest import MakeStudy, run
from tests.search.hearing import after_trials
from tests.waiting import until

_SCRIPT = """\
import contextlib
import sys
from search.cli import error_text
from search.errors import exit_code
from search import Callback
from search.study import Parts, Study
from search.testing.known_front import KnownFront, KnownFrontEvaluator
parts = Parts(prepare=KnownFront(KnownFrontEvaluator(sleep_s={sleep})))

class Say(Callback):
    def on_trial_end(self, study, trial):
        with contextlib.suppress(OSError):  # a terminal that has just gone
            print("trial", trial.number, flush=True)

try:
    study = Study("study.yaml", parts=parts, **{{"search.trials": {trials}, "search.sampler": "random"}})
    study.search([Say()])
except BaseException as error:
    print(error_text(error), file=sys.stderr)
    sys.exit(exit_code(error))
"""


@pytest.fixture
def script(workplace: Path) -> Callable[[float, int], list[str]]:
    def write(sleep: float, trials: int) -> list[str]:
        (workplace / "script.py").write_text(_SCRIPT.format(sleep=sleep, trials=trials))
        return [sys.executable, "script.py"]

    return write


@pytest.fixture
def record(workplace: Path) -> RunRecord:
    return RunRecord(workplace / "runs" / "prune" / "known")


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))


def begun(record: RunRecord, number: int) -> Callable[[], bool]:
    return (record.trial_dir(number) / "candidate.json").is_file


def test_ctrl_c_once_drops_the_trial_and_says_how_to_go_on(
    script: Callable[[float, int], list[str]], record: RunRecord
) -> None:
    process = subprocess.Popen(script(3600, 5), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(begun(record, 0))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=150)  # the trial itself takes an hour
    assert process.returncode == 130 and "next: paretoprune resume" in said and "Traceback" not in said


def test_ctrl_c_twice_ends_at_once(make_study: MakeStudy) -> None:
    """The second comes while the first is being obeyed."""
    study = make_study(**{"search.trials": 9})

    def twice(trial: Trial) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the search went on")

    with pytest.raises(Interrupted, match="paretoprune resume"):
        study.search([after_trials(twice)])
    assert [trial.number for trial in make_study(**{"search.trials": 3}).search().trials()] == [0, 1, 2]


def test_a_lost_terminal_does_not_end_the_search(script: Callable[[float, int], list[str]], record: RunRecord) -> None:
    ours, theirs = pty.openpty()

    def take_the_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may have been started with nohup
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        script(0.3, 4),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_the_terminal,
    )
    os.close(theirs)
    until(begun(record, 0))
    os.close(ours)  # the window is closed: the kernel sends SIGHUP, and writing fails from now on
    assert process.wait(150) == 0
    assert len(list(record.path.glob("trials/*/result.json"))) == 4
    assert "the terminal is gone" in (record.path / "search.log").read_text()
    assert not (record.path / "retried").exists(), "the workers did not notice"


def test_a_detached_search_has_no_terminal_and_is_found(
    script: Callable[[float, int], list[str]], record: RunRecord
) -> None:
    made = detach([], record, command=script(0.3, 2))
    assert record.lock.owner().startswith(f"pid {made['pid']} on ")
    assert os.getsid(made["pid"]) == made["pid"] != os.getsid(0)
    until(lambda: not record.lock.is_held())
    assert Path(made["log"]).read_text() == "trial 0\ntrial 1\n"


def test_a_detached_search_that_cannot_begin_says_why(record: RunRecord) -> None:
    command = [sys.executable, "-c", "import sys; print('error: no such file', file=sys.stderr); sys.exit(2)"]
    with pytest.raises(DetachedFailed, match=r"^no such file\n") as caught:
        detach([], record, command=command)
    assert caught.value.exit_code == 2
    assert not record.path.exists()


def test_a_second_coordinator_leaves_at_once_and_names_the_first(record: RunRecord) -> None:
    with RunLock(record.path / "run.lock"):
        result = run("search", "study.yaml")  # who waited for the lock would wait for ever
    assert result.exit_code == 5
    host = os.uname().nodename
    assert f"pid {os.getpid()} on {host} since {datetime.now():%Y-%m-%dT}" in result.stderr


class _Stepping(SimulatedClock):
    """A clock on the wall that somebody sets, a day back and two hours on, whenever it is looked at."""

    looks = 0

    def local(self) -> datetime:
        self.looks += 1
        return super().local() + timedelta(hours=2 if self.looks % 2 else -24)


def test_steps_of_the_clock_change_nothing(make_study: MakeStudy, workplace: Path) -> None:
    options = {"search.trials": 500, "search.hours": 0.1}
    straight = make_study(name="straight", **options).search()
    stepping = make_study(clock=_Stepping(), name="stepping", **options).search()
    assert len(stepping.trials()) == 6
    assert [one.candidate for one in stepping.trials()] == [one.candidate for one in straight.trials()]


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced")
def test_the_coordinators_memory_grows_by_the_trials_alone(make_study: MakeStudy) -> None:
    seen: dict[int, int] = {}

    def look(trial: Trial) -> None:
        if trial.number in (8, 32):
            gc.collect()
            seen[trial.number] = tracemalloc.get_traced_memory()[0]

    make_study(**{"search.trials": 33, "search.sampler": "random"}).search([after_trials(look)])
    assert (seen[32] - seen[8]) / 24 < 20_000, "bytes per trial: a record of it is all that may stay"


def test_a_detached_search_shows_no_password_in_the_list_of_processes(record: RunRecord) -> None:
    code = "import os, sys; print(sys.argv[1:], os.environ['PARETOPRUNE_DETACHED_WORDS']); sys.exit(2)"
    words = ["search", "study.yaml", "storage=postgresql://me:hunter2@host/d"]
    with pytest.raises(DetachedFailed, match="hunter2") as caught:
        detach(words, record, command=[sys.executable, "-c", code])
    assert "['search', 'study.yaml'] [\"storage=postgresql://me:hunter2@host/d\"]" in str(caught.value)


def test_a_detached_search_that_talks_first_says_its_error_once(record: RunRecord) -> None:
    code = "import sys; print('note: careful'); print('error: no such file\\n  where: here'); sys.exit(2)"
    with pytest.raises(DetachedFailed, match=r"^no such file\n  where: here\n"):
        detach([], record, command=[sys.executable, "-c", code])
