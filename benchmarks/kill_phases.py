"""kill -9 of real workers at every phase of a real trial (about ten minutes on two cores).

Searches the bundled digits study, and in each phase kills one worker that is in it. Prints what became of the trial.
Each is to be complete, since a killed trial runs once more.

    python benchmarks/kill_phases.py
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PHASES = ("score", "plan", "export", "latency", "recover", "save", "accuracy", "samples")
"""Of `search.evaluate.pruning_evaluator.PruningEvaluator`; short ones are met by looking often."""
_LOOK_S = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="studies/digits/study.yaml")
    parser.add_argument("--project", type=Path, default=Path("runs/kill-phases"))
    parser.add_argument("--trials", type=int, default=12)
    asked = parser.parse_args()
    shutil.rmtree(asked.project, ignore_errors=True)
    run = asked.project / "phases"
    words = [asked.study, f"project={asked.project}", "name=phases", f"search.trials={asked.trials}", "baselines=[]"]
    command = [sys.executable, "-m", "search.cli", "search", *words, "recover.epochs=1", "recover.fraction=0.1"]
    with subprocess.Popen(command) as process:
        killed = kill_each(run, process)
    trials = {number: state(run, number) for number in range(asked.trials)}
    for phase in PHASES:
        number = killed.get(phase)
        print(f"{phase}: " + ("never met" if number is None else f"trial {number}, {trials[number]}"))
    complete = sum(said == "complete" for said in trials.values())
    print(f"exit code {process.returncode}; {complete} of {len(trials)} complete")


def kill_each(run: Path, process: subprocess.Popen[bytes]) -> dict[str, int]:
    """Kill one worker in each phase, each of another trial; returns phase -> trial."""
    killed: dict[str, int] = {}
    while process.poll() is None:
        for folder in run.glob("trials/[0-9]*"):
            said, number = standing(folder), int(folder.name)
            phase = said.get("phase")
            if phase in PHASES and phase not in killed and number not in killed.values():
                with suppress(ProcessLookupError):
                    os.kill(int(said["pid"]), signal.SIGKILL)
                    killed[phase] = number
        time.sleep(_LOOK_S)
    return killed


def standing(folder: Path) -> dict[str, Any]:
    """What a trial that has not ended says."""
    if (folder / "result.json").exists():
        return {}
    try:
        found: dict[str, Any] = json.loads((folder / "progress.json").read_text())
        return found
    except (OSError, ValueError):
        return {}


def state(run: Path, number: int) -> str:
    """The state of a trial in its result.json."""
    try:
        return str(json.loads((run / "trials" / f"{number:04d}" / "result.json").read_text())["state"])
    except (OSError, ValueError):
        return "without a result"


if __name__ == "__main__":
    main()
