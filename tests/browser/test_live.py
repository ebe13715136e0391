"""The page beside a running search: it follows, keeps what the reader has zoomed, reconnects, and takes part."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import OpenPage
from tests.browser.driver import Serving, drawn
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
COUNT = "() => paretoprune.study.rows.length"
RANGE = "() => document.getElementById('front-figure')._fullLayout.xaxis.range"


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a search that is running, a trial every half second, for all tests of this file."""
    tmp_path = tmp_path_factory.mktemp("slow")
    command = [sys.executable, "-m", "tests.browser.slow_search", str(tmp_path), "1000", "0.4"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    run = tmp_path / "runs" / "prune" / "slow"
    try:
        until(lambda: (run / "snapshot.json").is_file() or process.poll() is not None)
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        yield run
    finally:
        process.terminate()
        process.wait(30)
        if process.stderr:
            process.stderr.close()


def test_a_running_search_is_followed_and_the_zoom_stays(open_page: OpenPage, slow: Path) -> None:
    with Serving([slow]).running() as served:
        page = open_page(served.address)
        drawn(page)
        assert page.inner_text("#state") == "running" and page.inner_text("#link") == "live"
        whole = page.evaluate(RANGE)
        box = page.locator("#front-figure .nsewdrag").first.bounding_box()
        page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
        page.mouse.up()
        zoomed = page.evaluate(RANGE)
        before = page.evaluate(COUNT)
        page.wait_for_function("n => paretoprune.study.rows.length >= n", arg=before + 3)
        assert page.evaluate(RANGE) == zoomed != whole
        page.wait_for_function("() => /trial \\d+ /.test(document.getElementById('tiles').textContent)")
        assert f"{page.evaluate(COUNT)} of {page.evaluate(COUNT)} trials" in page.inner_text("#table-count")


def test_a_lost_connection_is_made_good_by_what_was_missed(open_page: OpenPage, slow: Path) -> None:
    serving = Serving([slow])
    with serving.running():
        page = open_page(serving.address)
        drawn(page)
        page.wait_for_function("() => paretoprune.study.rows.length >= 2")
    page.wait_for_function("() => document.getElementById('link').textContent.includes('lost')")
    known = page.evaluate(COUNT)
    until(lambda: len(json.loads((slow / "snapshot.json").read_text())["trials"]) >= known + 3)
    with serving.running():
        page.wait_for_function("n => paretoprune.study.rows.length >= n", arg=known + 3)
        assert page.inner_text("#link") == "live"
        numbers = page.evaluate("() => paretoprune.study.rows.map(row => row.number)")
        assert numbers == list(range(len(numbers)))


def test_a_vector_becomes_a_trial_of_the_running_search(open_page: OpenPage, slow: Path) -> None:
    with Serving([slow]).running() as served:
        page = open_page(served.address + "#tab=whatif")
        drawn(page)
        page.wait_for_selector("#whatif-body .sky .col")
        page.focus("#whatif-body .sky .col[aria-label^='neck']")
        for _ in range(5):
            page.keyboard.press("PageDown")
        assert page.get_attribute("#whatif-body .sky .col[aria-label^='neck']", "aria-valuenow") == "13", (
            "0.8 is the bound"
        )
        assert page.get_attribute("#whatif-body .gauges", "data-params") == str(15625 * (64 + 13 + 64))
        page.click("#whatif-body button:has-text('enqueue')")
        page.wait_for_selector("#dialog:has-text('Enqueued')")
        page.click("#dialog button")
        mine = "() => paretoprune.study.rows.find(row => row.source === 'user')"
        page.wait_for_function(f"() => Boolean(({mine})())")
        row = page.evaluate(mine)
        assert row["widths"] == [64, 13, 64] and row["state"] == "complete"
    assert not list((slow / "enqueue").glob("*.json"))
