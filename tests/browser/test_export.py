"""Export from the page: asked, confirmed, followed, and what came of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from search.present.dashboard.jobs import Jobs
from tests.browser.conftest import OpenPage
from tests.browser.driver import Serving, drawn
from tests.waiting import LIMIT_S, until

ARTEFACT = {"path": "model.onnx", "size_bytes": 1_234_567, "drop": 0.002, "faults": []}
GOOD = f"""
import sys, time, json
print("exporting onnx", file=sys.stderr, flush=True); time.sleep(1.2)
print(json.dumps({{"metric": "map50_95", "artefacts": [{json.dumps(ARTEFACT)}]}}))
""".replace("[]", "[]")
BAD = "import sys; print('error: the weights of trial 12 were not kept', file=sys.stderr); sys.exit(2)"


class Told:
    """Starts a small program in the place of `paretoprune`, and remembers what was asked."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.words: list[list[str]] = []

    def __call__(self, words: Sequence[str]) -> subprocess.Popen[str]:
        self.words.append(list(words))
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-c", self.program], text=True, start_new_session=True, **pipes)


def test_an_export_is_confirmed_followed_and_shown(open_page: OpenPage, studio: Path) -> None:
    told = Told(GOOD)
    with Serving([studio], Jobs(told)).running() as served:
        page = open_page(f"{served.address}#trial=12")
        drawn(page)
        page.click("#drawer button:has-text('export')")
        assert told.words == [], "nothing happens before it is confirmed"
        page.select_option("#dialog select", "8")
        page.click("#dialog button:has-text('export')")
        page.wait_for_selector("#jobs progress")
        page.wait_for_selector("#jobs:has-text('export done')")
        text = page.inner_text("#jobs")
    assert "model.onnx: 1.2 MB" in text and "mAP50-95 \u22120.2 points" in text and "all checks passed" in text
    assert told.words == [["export", f"{studio}:12", "format=onnx", "-f", "json", "quantize=8"]]
    assert str(studio.parent) not in text


def test_an_export_that_fails_says_why(open_page: OpenPage, studio: Path) -> None:
    with Serving([studio], Jobs(Told(BAD))).running() as served:
        page = open_page(f"{served.address}#trial=12")
        drawn(page)
        page.click("#drawer button:has-text('export')")
        page.click("#dialog button:has-text('export')")
        page.wait_for_selector("#jobs:has-text('export failed')")
        assert "were not kept" in page.inner_text("#jobs")


def test_the_job_is_the_real_command_line(studio: Path) -> None:
    """The default launcher: a command that is fast, so that the wiring is proven without an export."""
    jobs = Jobs()
    job = jobs.start("show", "run", 12, ["show", f"{studio}:12", "-f", "json"])
    assert jobs._process is not None
    jobs._process.wait(LIMIT_S)
    until(lambda: job.state != "running")
    assert job.state == "done", list(job.lines)
    assert job.result["number"] == 12 and json.dumps(job.to_json())
