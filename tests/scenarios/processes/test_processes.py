"""Real processes: the lock, a coordinator that is killed, Ctrl-C, and a caller's script without a main guard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from search.errors import RunLocked
from search.run_folder.lock import RunLock
from search.run_folder.record import RunRecord
from search.study import Parts, Study
from search.testing.known_front import KnownFront, KnownFrontEvaluator, WitnessedEvaluator, ancestors
from search.trial import TrialState
from tests.waiting import LIMIT_S, is_gone, until

ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = """\
from pathlib import Path
from search.study import Parts, Study
from search.testing.known_front import KnownFront, StallingEvaluator, WitnessedEvaluator
prepare = KnownFront(WitnessedEvaluator(Path("begun").resolve(), StallingEvaluator(stalls_from={stalls_from})))
Study("study.yaml", parts=Parts(prepare=prepare), **{{"search.trials": {trials}}}).search()
"""


def _start(folder: Path, stalls_from: int, trials: int = 6) -> subprocess.Popen[str]:
    """A coordinator in a script of its own, without a main guard; a trial from `stalls_from` on never ends."""
    (folder / "script.py").write_text(_SCRIPT.format(stalls_from=stalls_from, trials=trials))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "script.py"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


_PREPARING = """\
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins without
from pathlib import Path
from search import cli
from search.study import Parts, Study

def prepare(spec, record, say):
    Path("preparing").touch()
    time.sleep(120)

def search():
    study = Study("study.yaml", parts=Parts(prepare=prepare))
    cli._follow(study)

try:
    cli.guarded(search)()
except cli.typer.Exit as exited:
    sys.exit(exited.exit_code)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interruption_while_preparing_says_how_to_go_on(workplace: Path, number: signal.Signals) -> None:
    (workplace / "script.py").write_text(_PREPARING)
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((workplace / "preparing").exists)
    process.send_signal(number)
    _, said = process.communicate(timeout=LIMIT_S)
    assert "interrupted; what was measured so far is kept" in said and "paretoprune resume " in said
    assert process.returncode == 130 and "Traceback" not in said
    assert _record(workplace).args_path.is_file()
    assert _finish(workplace, 2) == [TrialState.COMPLETE] * 2


def _stalled(folder: Path, number: int) -> int:
    """The process of trial `number`, once it has begun to stand still."""
    seen = WitnessedEvaluator(folder / "begun", KnownFrontEvaluator())
    until(lambda: seen.begun(number))
    (begun,) = seen.folder.glob(f"{number}-*")
    return int(begun.name.partition("-")[2])


def _record(folder: Path) -> RunRecord:
    return RunRecord(folder / "runs" / "prune" / "known")


def _results(folder: Path) -> int:
    return len(list(_record(folder).path.glob("trials/*/result.json")))


def _finish(folder: Path, trials: int) -> list[TrialState]:
    study = Study("study.yaml", parts=Parts(prepare=KnownFront()), **{"search.trials": trials})
    return [trial.state for trial in study.search().trials()]


def test_the_lock_names_its_owner_and_dies_with_it(workplace: Path) -> None:
    coordinator = _start(workplace, stalls_from=0)
    _stalled(workplace, 0)
    with pytest.raises(RunLocked, match=f"pid {coordinator.pid} on"):
        Study("study.yaml", parts=Parts(prepare=KnownFront()), **{"search.trials": 6}).search()
    assert _record(workplace).lock.is_held()
    coordinator.kill()
    coordinator.communicate()
    with RunLock(_record(workplace).path / "run.lock"):
        pass


def test_a_killed_coordinator_loses_nothing_and_leaves_no_process(workplace: Path) -> None:
    coordinator = _start(workplace, stalls_from=2)
    trial = _stalled(workplace, 2)
    coordinator.send_signal(signal.SIGKILL)
    coordinator.communicate()
    until(lambda: is_gone(trial), "the trial's process outlived its coordinator")
    assert _results(workplace) == 2
    assert _finish(workplace, 6) == [TrialState.COMPLETE] * 6


def test_interrupting_drops_the_trial_and_can_be_resumed(workplace: Path) -> None:
    coordinator = _start(workplace, stalls_from=1)
    _stalled(workplace, 1)
    coordinator.send_signal(signal.SIGINT)
    _, errors = coordinator.communicate(timeout=150)
    assert coordinator.returncode != 0
    assert "Interrupted: stopped after" in errors and "paretoprune resume" in errors
    assert "multiprocessing" not in errors
    assert _finish(workplace, 6) == [TrialState.COMPLETE] * 6


def test_a_script_without_a_main_guard_runs_once(workplace: Path) -> None:
    coordinator = _start(workplace, stalls_from=3, trials=3)
    output, errors = coordinator.communicate(timeout=150)
    assert (coordinator.returncode, output, errors) == (0, "", "")
    assert _results(workplace) == 3


def test_two_workers_finish_every_trial(workplace: Path) -> None:
    study = Study("study.yaml", parts=Parts(prepare=KnownFront()), **{"search.trials": 8, "search.workers": 2}).search()
    assert [trial.number for trial in study.trials()] == list(range(8))


def test_a_killed_fork_server_costs_a_second_try(workplace: Path) -> None:
    """Its children end with it, are run once more from a new one, and nothing is lost or left behind."""
    script = _SCRIPT.replace("StallingEvaluator(stalls_from={stalls_from})", "stalls=({stalls_from},)")
    (workplace / "script.py").write_text(script.replace("StallingEvaluator, ", "").format(stalls_from=0, trials=3))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    coordinator = subprocess.Popen([sys.executable, "script.py"], cwd=workplace, env=environment)
    worker = _stalled(workplace, 0)
    os.kill(ancestors(worker)[0], signal.SIGKILL)
    assert coordinator.wait(150) == 0
    until(lambda: is_gone(worker))
    assert _finish(workplace, 3) == [TrialState.COMPLETE] * 3
    assert (_record(workplace).path / "retried" / "0000.txt").is_file()
