"""The kill loop: `make soak KILLS=200`, or `make soak MINUTES=480` for a night.

Coordinators are killed at random moments and at every named crash point, workers in the middle of their trials, until
as many died, or as much time has passed, as was asked for. Then the study is finished undisturbed and reckoned up.
Prints kills, trials, lost, doubled; exit code 1 if a promise was broken. `--memory 500` prints the coordinator's memory
along so many trials.

    python benchmarks/soak.py --kills 200

The coordinator is a real process with the real engine, lock and study.db; only the evaluator is quick. It writes a line
when it begins a trial, so that whoever looks afterwards knows which trials were evaluated, how often, and by whom.

A trial is *acknowledged* once its result.json is there. `lost`: it was acknowledged, and in the end is not COMPLETE in
study.db with the same figures. `doubled`: it was evaluated again after that, or study.db has its number twice.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from search import Callback
from search.run_folder.crash_points import ANYWHERE, COORDINATOR, POINTS, VARIABLE, WORKER
from search.run_folder.record import RunRecord, acknowledged
from search.study import Parts, Study
from search.testing.known_front import KnownFront, NotingEvaluator
from search.trial import Measurement, Trial

_ENDLESS = 1_000_000
_LONG_S = 60.0
_AFTER = 2
"""Trials that the last, undisturbed session adds."""


@dataclass
class Tally:
    """What a soak has done and found."""

    kills: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    lost: int = 0
    doubled: int = 0
    gaps: int = 0
    orphans: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.doubled or self.gaps or self.orphans)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.kills.items()))
        return (
            f"kills {sum(self.kills.values())} ({kinds})\ntrials {self.trials}\n"
            f"lost {self.lost}\ndoubled {self.doubled}\n"
            f"numbers missing {self.gaps}\nprocesses left {self.orphans}\nseconds {self.seconds:.0f}"
        )


@dataclass
class Soak:
    """One study in `folder`, which is made; `sleep_s`: what a trial takes."""

    folder: Path
    dice: random.Random = field(default_factory=random.Random)
    sleep_s: float = 0.05
    tally: Tally = field(default_factory=Tally)
    _known: dict[int, Measurement] = field(default_factory=dict)
    _begun: Counter[int] = field(default_factory=Counter)
    _token: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "best.pt").write_bytes(b"weights")
        (self.folder / "data.yaml").write_text("path: .\ntrain: .\nval: .\n")
        (self.folder / "study.yaml").write_text("model: best.pt\ndata: data.yaml\nname: soak\n")
        self.record = RunRecord(self.folder / "runs" / "prune" / "soak")
        self.evaluations = self.folder / "evaluated.log"

    def disturb(self) -> str:
        """One session that ends badly, by the dice; returns how."""
        way = self.dice.choice(("coordinator", "coordinator", "worker", "point"))
        if way == "point":
            self.crash_at(self.dice.choice([*COORDINATOR, *WORKER, *ANYWHERE]), self.dice.randint(1, 4))
        elif way == "worker":
            self.kill_workers(self.dice.randint(1, 2))
        else:
            self.kill_coordinator(early=self.dice.random() < 0.25)
        return way

    def kill_coordinator(self, *, early: bool = False) -> None:
        """kill -9 at a random moment: while it starts, or while it searches."""
        process = self._start()
        if not early:
            self._wait(lambda: self.record.lock.is_held(), process)
        time.sleep(self.dice.uniform(0.0, 1.0))
        self._kill(process, "coordinator")

    def kill_workers(self, count: int) -> None:
        """kill -9 of workers in the middle of their trials; the coordinator goes on, and is killed in the end."""
        process = self._start()
        for _ in range(count):
            before = len(self._lines())
            self._wait(lambda before=before: len(self._lines()) > before, process)  # type: ignore[misc]
            time.sleep(self.dice.uniform(0.0, 1.5 * self.sleep_s))
            with suppress(ProcessLookupError):
                os.kill(self._lines()[-1][1], signal.SIGKILL)
                self.tally.kills["worker"] += 1
        time.sleep(self.dice.uniform(0.1, 0.5))
        self._kill(process, "coordinator")

    def crash_at(self, point: str, count: int = 1) -> None:
        """The process that passes a crash point for the `count`-th time dies there."""
        self._token += 1
        token = self.folder / f"token-{self._token}"
        trials = len(self._results()) + 1 if point == "closing" else _ENDLESS
        times = 1 if point in (*_ONCE, *WORKER) else count
        process = self._start(trials, **{VARIABLE: f"{point}:{times}:{token}"})
        self._wait(lambda: token.exists(), process)
        assert token.exists(), f"nobody came to the crash point {point}"
        self.tally.kills[f"at {point}"] += 1
        if point in COORDINATOR:
            process.wait(_LONG_S)
        else:
            time.sleep(self.dice.uniform(0.0, 0.4))
        self._kill(process, "coordinator")

    def finish(self) -> Tally:
        """An undisturbed session, and the reckoning."""
        process = self._start(len(self._results()) + _AFTER)
        assert process.wait(10 * _LONG_S) == 0, (self.folder / "said.log").read_text()[-2000:]
        self._look()
        return self.reckon()

    def reckon(self) -> Tally:
        """What the files say in the end, against what was known to be acknowledged."""
        told, results = self._told(), self._results()
        self.tally.trials = len(results)
        numbers = self._numbers()  # also of trials that failed: a worker that was killed twice is a failure, and no gap
        self.tally.gaps = len(set(range(len(numbers))) ^ numbers)
        self.tally.doubled += sum(count > 1 for count in told.values())
        self.tally.lost = sum(results.get(n) != found or not told.get(n) for n, found in self._known.items())
        return self.tally

    def _start(self, trials: int = _ENDLESS, **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / "said.log").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, __file__, "--session", str(self.folder), str(trials), str(self.sleep_s)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def _kill(self, process: subprocess.Popen[bytes], kind: str) -> None:
        if process.poll() is None:
            process.kill()
            self.tally.kills[kind] += 1
        process.wait()
        self._look()

    def _look(self) -> None:
        """Note what is acknowledged now, and what of it was evaluated again since it was known to be."""
        workers = {pid for _, pid in self._lines()[-4:]}
        self._wait(lambda: not any(map(_lives, workers)))
        self.tally.orphans += sum(map(_lives, workers))
        begun = Counter(number for number, _ in self._lines())
        self.tally.doubled += sum(begun[number] > self._begun[number] for number in self._known)
        self._known |= self._results()
        self._begun = begun

    def _wait(self, condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
        end = time.monotonic() + (5.0 if process is None else _LONG_S)
        while not condition() and time.monotonic() < end and (process is None or process.poll() is None):
            time.sleep(0.01)

    def _lines(self) -> list[tuple[int, int]]:
        """(trial, process) of every evaluation that began; a torn last line is not one yet."""
        text = self.evaluations.read_text() if self.evaluations.exists() else ""
        return [(int(number), int(pid)) for number, pid in (line.split() for line in text.split("\n")[:-1])]

    def _results(self) -> dict[int, Measurement]:
        folders = self.record.path.glob("trials/[0-9]*")
        found = {int(folder.name): acknowledged(folder) for folder in folders}
        return {number: measured for number, measured in found.items() if measured is not None}

    def _numbers(self) -> set[int]:
        """All that study.db has."""
        with closing(sqlite3.connect(self.record.path / "study.db")) as connection:
            return {row[0] for row in connection.execute("SELECT number FROM trials")}

    def _told(self) -> Counter[int]:
        """How often study.db has each number as COMPLETE."""
        with closing(sqlite3.connect(self.record.path / "study.db")) as connection:
            return Counter(row[0] for row in connection.execute("SELECT number FROM trials WHERE state = 'COMPLETE'"))


_ONCE = ("claimed", "prepared", "closing")
"""Passed once in a process."""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def rss_mb() -> float:
    """Resident memory of this process, 10^6 bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def memory_over(folder: Path, trials: int, every: int = 50) -> list[tuple[int, float]]:
    """(trials, resident MB of the coordinator) along one real search of `trials` quick trials."""
    soak, found = Soak(folder, sleep_s=0.0), list[tuple[int, float]]()

    class Looking(Callback):
        def on_trial_end(self, study: Study, trial: Trial) -> None:
            done = study.progress()["done"]
            if done >= len(found) * every:
                found.append((done, rss_mb()))

    _study(soak.folder, trials, 0.0).search([Looking()])
    return found


def _study(folder: Path, trials: int, sleep_s: float) -> Study:
    os.chdir(folder)
    prepare = KnownFront(NotingEvaluator(str(folder / "evaluated.log"), sleep_s))
    return Study("study.yaml", parts=Parts(prepare=prepare), **{"search.trials": trials, "search.sampler": "random"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=None, help="instead of a number of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, default=0, metavar="TRIALS")
    parser.add_argument("--folder", type=Path, default=None, help="kept; default: a temporary one")
    parser.add_argument("--session", nargs=3, metavar=("FOLDER", "TRIALS", "SLEEP_S"), help="one search, to be killed")
    asked = parser.parse_args()
    if asked.session:
        _study(Path(asked.session[0]), int(asked.session[1]), float(asked.session[2])).search()
        return
    with tempfile.TemporaryDirectory(prefix="paretoprune-soak-") as temporary:
        folder = (asked.folder or Path(temporary)).resolve()
        sys.exit(_memory(folder, asked.memory) if asked.memory else _soak(folder, asked))


def _memory(folder: Path, trials: int) -> int:
    for done, megabytes in memory_over(folder, trials):
        print(f"{done} trials: {megabytes:.1f} MB", flush=True)
    return 0


def _soak(folder: Path, asked: argparse.Namespace) -> int:
    soak, begin = Soak(folder, random.Random(asked.seed)), time.monotonic()
    left = list(POINTS)  # every named point once, then by the dice
    while _goes_on(soak, asked, time.monotonic() - begin):
        if left:
            soak.crash_at(left.pop())
        else:
            soak.disturb()
        killed = sum(soak.tally.kills.values())
        print(f"{killed} kills, {time.monotonic() - begin:.0f} s", end="\r", file=sys.stderr, flush=True)
    soak.tally.seconds = time.monotonic() - begin
    print(soak.finish(), flush=True)
    return 0 if soak.tally.is_clean else 1


def _goes_on(soak: Soak, asked: argparse.Namespace, seconds: float) -> bool:
    if asked.minutes is not None:
        return bool(seconds < 60 * asked.minutes)
    return bool(sum(soak.tally.kills.values()) < asked.kills)


if __name__ == "__main__":
    main()
