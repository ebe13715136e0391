"""What a search shows: one live line on a terminal, elsewhere lines, at least one a minute."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from search.commands.progress import Follower, StatusLine
from search.evaluate.timing.progress import TrialProgress
from search.orchestration.loop import Progress
from tests.search.conftest import MakeStudy

ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = """\
import time
from dataclasses import dataclass
from rich.console import Console
from search.commands.progress import following
from search.study import Parts, Study
from search.testing.known_front import KnownFront, KnownFrontEvaluator

@dataclass(frozen=True)
class Slow(KnownFront):
    def __call__(self, spec, record, say):
        for _ in range(4):
            say("measuring the base: accuracy")
            time.sleep(0.15)
        return super().__call__(spec, record, say)

study = Study("study.yaml", parts=Parts(prepare=Slow(KnownFrontEvaluator(sleep_s=0.4))), **{"search.trials": 3})
console = Console()
with following(study, console) as shown:
    study.search([shown])
"""


def _progress(seconds: float, eta_s: float | None = None) -> Progress:
    return Progress(1, 1, 9, seconds, eta_s, {2: (TrialProgress("recover 40 %"), seconds)}, None)


def test_without_a_terminal_there_is_a_line_for_every_step_and_one_a_minute(make_study: MakeStudy) -> None:
    text, now = io.StringIO(), [0.0]
    study = make_study(**{"search.trials": 9})
    follower = Follower(study, StatusLine(Console(file=text), now=lambda: now[0]))
    for second in range(130):
        now[0] = float(second)
        follower.on_activity(study, "tracing the model" if second < 3 else "measuring the base: accuracy")
    for second in range(130, 300):
        now[0] = float(second)
        follower.on_progress(study, _progress(second - 130.0, 600.0 if second > 200 else None))
    lines = text.getvalue().splitlines()
    assert lines[:3] == [
        "tracing the model, 0/9 trials",
        "measuring the base: accuracy, 0/9 trials",
        "measuring the base: accuracy (50 s), 0/9 trials",
    ]
    assert "2/9 trials, 1 failed, trial 2 recover 40 % (23 s), the time left is known soon" in lines
    assert lines[-1] == "2/9 trials, 1 failed, trial 2 recover 40 % (2 min), 10 min left"
    assert len(lines) == 1 + 300 // 50


def test_a_terminal_has_a_live_line_all_the_while(workplace: Path) -> None:
    (workplace / "script.py").write_text(_SCRIPT)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, "script.py"], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = _read_all(ours)
    assert process.wait(30) == 0, shown
    assert "measuring the base: accuracy, 0/3 trials" in shown
    assert re.search(r"0/3 trials, trial 0 \S", shown) and re.search(r"2/3 trials, trial 2 .*left", shown)
    for number in range(3):
        assert re.search(rf"\ntrial {number} \(opening\): .*mAP50-95", shown)


def _read_all(handle: int) -> str:
    found = b""
    while True:
        try:
            part = os.read(handle, 65536)
        except OSError:  # how Linux says that the other end is closed
            part = b""
        if not part:
            os.close(handle)
            text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found.decode())
            return text.replace("\r", "\n")
        found += part
