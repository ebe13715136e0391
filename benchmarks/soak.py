"""The kill loop: `make soak KILLS=200`, or `make soak MINUTES=480` for a night.

Coordinators are killed at random moments and at every named crash point, workers in the middle of their trials, until
as many died, or as much time has passed, as was asked for. Then the study is finished undisturbed and reckoned up.
Prints kills, trials, lost, doubled; exit code 1 if a promise was broken. `--memory 500` prints the coordinator's memory
along so many trials.

    python benchmarks/soak.py --kills 200
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from search.run_folder.crash_points import POINTS
from search.testing.soak import Soak, memory_over


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=None, help="instead of a number of kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, default=0, metavar="TRIALS")
    parser.add_argument("--folder", type=Path, default=None, help="kept; default: a temporary one")
    asked = parser.parse_args()
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
