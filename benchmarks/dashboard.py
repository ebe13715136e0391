"""How fluid the dashboard is: first paint, the front, and one more trial, with 2,000 trials.

    python benchmarks/dashboard.py                 # 2,000 trials of 65 layers, medians of 5
    python benchmarks/dashboard.py --readers 10 --trials 3000      # so many pages at once, without their drawing

The live page in headless Chromium, served by this process on the same machine. Asked for: first paint under 2 s, an
update under 200 ms on 2 cores. "first paint" is the first frame with content; "front drawn" has every figure on screen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from search.present.report import write_report
from tests.browser.driver import Serving, chromium, drawn
from tests.search.present import snapshots

_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def write_run(folder: Path, snapshot: dict[str, Any]) -> None:
    """A run folder that holds only what the dashboard reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "args.yaml").write_text(yaml.safe_dump({"name": snapshot["name"]}))
    part = folder / "snapshot.part"
    part.write_text(json.dumps(snapshot))
    part.replace(folder / "snapshot.json")


def first_paint(browser: Any, address: str) -> tuple[float, float]:
    """(first paint, front drawn) in milliseconds, with an empty cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(address)
    drawn(page, 1)
    found = page.evaluate(_PAINT), page.evaluate("performance.now()")
    context.close()
    return found


def updates(browser: Any, address: str, run: Path, count: int, repeats: int) -> tuple[list[float], dict[str, float]]:
    """Milliseconds that the page works when one more trial arrives; of the last one also by part."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    drawn(page, 1)
    page.wait_for_timeout(1000)
    found = []
    for extra in range(1, repeats + 1):
        before = page.evaluate("paretoprune.timing.updates.length")
        write_run(run, snapshots.build(count + extra, state="running"))
        page.wait_for_function("n => paretoprune.timing.updates.length > n", arg=before, timeout=30_000)
        found.append(page.evaluate("paretoprune.timing.updates.at(-1)"))
    parts = page.evaluate("paretoprune.timing.parts")
    page.close()
    return found, parts


class Reader(threading.Thread):
    """Follows a run as a page does, and notes when it knew everything."""

    def __init__(self, address: str, run: str) -> None:
        super().__init__(daemon=True)
        self.stream = urlopen(f"{address}api/runs/{run}/events", timeout=60)
        self.known: list[float] = []

    def run(self) -> None:
        for line in self.stream:
            if line.startswith(b"event: head"):
                self.known.append(time.perf_counter())


def read_at_once(run: Path, address: str, readers: int, trials: int, repeats: int) -> str:
    """What so many readers wait for the whole run, and for one more trial, the slowest of them; and what that costs."""
    name = json.loads(urlopen(f"{address}api/runs").read())[0]["id"]
    began, busy = time.perf_counter(), -time.process_time()
    followers = [Reader(address, name) for _ in range(readers)]
    for follower in followers:
        follower.start()
    whole = _slowest(followers, 1) - began
    busy += time.process_time()
    waits = []
    for extra in range(1, repeats + 1):
        write_run(run, snapshots.build(trials + extra, state="running"))
        began, busy = time.perf_counter(), busy - time.process_time()
        waits.append(_slowest(followers, 1 + extra) - began)
        busy += time.process_time()
    return (
        f"{readers} readers of {trials} trials: all have the run after {whole:.2f} s, one more trial after "
        f"{statistics.median(waits):.2f} s (worst {max(waits):.2f} s); "
        f"{busy:.1f} s of a processor for all {1 + repeats}, readers included"
    )


def _slowest(followers: list[Reader], heads: int) -> float:
    while any(len(follower.known) < heads for follower in followers):
        time.sleep(0.005)
    return max(follower.known[heads - 1] for follower in followers)


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--readers", type=int, default=0, help="only these: clients of the live page at the same time")
    given = parser.parse_args()
    if given.readers:
        with tempfile.TemporaryDirectory(prefix="paretoprune-dashboard-") as name:
            run = Path(name) / "runs" / "many"
            write_run(run, snapshots.build(given.trials, state="running"))
            with Serving([run]).running() as serving:
                print(read_at_once(run, serving.address, given.readers, given.trials, given.repeats))
        return
    with tempfile.TemporaryDirectory(prefix="paretoprune-dashboard-") as name, chromium() as browser:
        run = Path(name) / "runs" / "many"
        write_run(run, snapshots.build(given.trials, state="running"))
        with Serving([run]).running() as serving:
            paints = [first_paint(browser, serving.address) for _ in range(given.repeats)]
            worked, parts = updates(browser, serving.address, run, given.trials, given.repeats)
        report = write_report(snapshots.build(500), Path(name) / "report.html")
        offline = [first_paint(browser, report.as_uri()) for _ in range(given.repeats)]
        size = report.stat().st_size
    print(f"{given.trials} trials, live: first paint {statistics.median(p for p, _ in paints):.0f} ms, ", end="")
    print(
        f"front drawn {statistics.median(d for _, d in paints):.0f} ms, update {statistics.median(worked):.0f} ms ",
        end="",
    )
    print(f"(worst {max(worked):.0f} ms)")
    print("of the last update: " + ", ".join(f"{name} {ms:.0f}" for name, ms in parts.items()) + " ms")
    print(
        f"500 trials, report.html: {size / 1e6:.2f} MB, "
        f"first paint {statistics.median(p for p, _ in offline):.0f} ms, ",
        end="",
    )
    print(f"front drawn {statistics.median(d for _, d in offline):.0f} ms")


if __name__ == "__main__":
    main()
