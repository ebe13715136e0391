"""report.html: the same page from the file system, with the network off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.present.report import write_report
from search.study import Study
from tests.browser.conftest import OpenPage
from tests.browser.driver import drawn
from tests.search.present import snapshots


@pytest.fixture(scope="session")
def report(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the finished run."""
    return Study.load(studio).report(tmp_path_factory.mktemp("report") / "report.html")


def offline(open_page: OpenPage, report: Path, state: str = "") -> tuple[Any, list[str]]:
    """The file, and every address that it asked for."""
    page = open_page("about:blank", offline=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri() + (f"#{state}" if state else ""))
    drawn(page)
    return page, asked


def test_the_file_shows_what_the_server_shows(open_page: OpenPage, report: Path) -> None:
    page, asked = offline(open_page, report, "trial=12")
    assert page.inner_text("#name") == "harbour" and page.locator("#table tbody tr[data-id]").count() == 30
    assert [address for address in asked if not address.startswith(("file:", "data:", "blob:"))] == []
    assert "fit; best" in page.inner_text("#budget-text")


def test_the_trials_that_matter_bring_their_images(open_page: OpenPage, report: Path) -> None:
    page, _ = offline(open_page, report)
    point = page.evaluate("paretoprune.study.head.front[0]")
    page.evaluate("point => paretoprune.choose({trial: point})", point)
    page.wait_for_selector("#drawer .shots img")
    assert page.evaluate(
        "[...document.querySelectorAll('#drawer .shots img')].every(image => image.naturalWidth === 160)"
    )
    assert page.locator("#drawer button:has-text('export')").count() == 0, "a file cannot export"


def test_what_if_works_and_says_what_it_cannot(open_page: OpenPage, report: Path) -> None:
    page, _ = offline(open_page, report, "tab=whatif")
    before = page.get_attribute("#whatif-body .gauges", "data-macs")
    page.focus("#whatif-body .sliders input")
    page.keyboard.press("End")
    assert page.get_attribute("#whatif-body .gauges", "data-macs") != before
    assert page.is_disabled("#whatif-body button:has-text('enqueue')")
    assert "paretoprune dashboard" in page.inner_text("#whatif-body")


@pytest.mark.parametrize("tab", ["heat", "curves", "history", "health", "compare", "run"])
def test_every_tab_is_drawn(open_page: OpenPage, report: Path, tab: str) -> None:
    page, _ = offline(open_page, report, f"tab={tab}")
    assert len(page.inner_text(f"#tab-{tab}").strip()) > 40


def test_a_search_that_has_measured_nothing_is_drawn(open_page: OpenPage, tmp_path: Path) -> None:
    empty = snapshots.build(0, state="running", base=None, verdict="", groups=[])
    page = open_page(write_report(empty, tmp_path / "report.html").as_uri())
    page.wait_for_selector("#front-figure .empty")
    for tab in ("heat", "curves", "history", "failures", "health", "compare", "whatif", "run"):
        page.click(f"#tabhead-{tab}")
    assert "paretoprune resume runs/prune/drone-5ms" in page.inner_text("#commands")


def test_the_commands_of_a_trial_are_named(open_page: OpenPage, report: Path) -> None:
    page, _ = offline(open_page, report, "tab=run")
    lines = page.inner_text("#commands").splitlines()
    for command in ("show", "finetune", "export"):
        assert any(line.startswith(f"paretoprune {command} ") for line in lines), command


def test_thousands_of_trials_put_few_rows_into_the_page(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(write_report(snapshots.build(2000), tmp_path / "report.html").as_uri())
    drawn(page)
    assert page.locator("#table tbody tr[data-id]").count() < 80
    page.focus("#table tbody tr[tabindex='0']")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.id") == "1999"


LONELY = """() => {
    const gd = document.getElementById("front-figure"), layout = gd._fullLayout, {rows} = paretoprune.study;
    const at = row => [layout.xaxis.d2p(row.figures.latency_ms[0]), layout.yaxis.d2p(row.figures.map50_95[0])];
    const all = rows.filter(row => row.state === "complete").map(row => [row, ...at(row)]);
    const near = (x, y) => Math.min(...all.map(([, a, b]) => Math.hypot(a - x, b - y)).filter(Boolean));
    const inside = ([, x, y]) => x > 20 && y > 20 && x < layout._size.w - 20 && y < layout._size.h - 20;
    const crowd = all.filter(one => !one[0].on_front && one[0].feasible && inside(one));
    const found = crowd.reduce((best, one) => (near(one[1], one[2]) > near(best[1], best[2]) ? one : best));
    const box = gd.getBoundingClientRect();
    return [found[0].id, box.left + layout._size.l + found[1], box.top + layout._size.t + found[2]];
}"""
INK = """point => {
    const gd = document.getElementById("front-figure"), {xaxis, yaxis} = gd._fullLayout;
    const {figures} = paretoprune.study.byPoint.get(point), href = gd.layout.images[0].source;
    const share = (axis, value) => (value - axis.range[0]) / (axis.range[1] - axis.range[0]);
    return new Promise(done => {
        const picture = new Image();
        picture.onload = () => {
            const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
            Object.assign(canvas, {width: picture.width, height: picture.height});
            pen.drawImage(picture, 0, 0);
            const x = share(xaxis, figures.latency_ms[0]), y = 1 - share(yaxis, figures.map50_95[0]);
            done(pen.getImageData(x * picture.width, y * picture.height, 1, 1).data[3]);
        };
        picture.src = href;
    });
}"""


def test_a_crowd_is_one_picture_that_answers_the_pointer(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(write_report(snapshots.build(1200), tmp_path / "report.html").as_uri() + "#range=all")
    drawn(page)
    front = len(page.evaluate("paretoprune.study.head.front"))
    assert page.locator("#front-figure .scatterlayer path.point").count() == front + 1, "the front and the base"
    point, x, y = page.evaluate(LONELY)
    assert page.evaluate(INK, point) > 60
    page.mouse.move(x, y)
    page.wait_for_selector(f"#tip:has-text('trial {point}')")
    page.mouse.click(x, y)
    page.wait_for_selector(f"#drawer-title:has-text('Trial {point}')")
    page.evaluate("Plotly.relayout('front-figure', {'xaxis.range': [1, 6], 'yaxis.range': [0.2, 0.52]})")
    point = page.evaluate(LONELY)[0]
    assert page.evaluate(INK, point) > 60, "the picture is drawn anew for the range"


def test_further_keys_of_a_snapshot_are_drawn(open_page: OpenPage, tmp_path: Path) -> None:
    """What other parts of the search add later: baselines, estimates, rungs, figures of other devices."""
    content = snapshots.build(40)
    content["trials"][5] |= {
        "estimated": True,
        "rung": "one epoch",
        "on_front": False,
        "state": "complete",
        "feasible": True,
    }
    there = {"machine": {}, "base_ms": 20.0, "latency_ms": {"6": [12.5, 12.0, 13.0]}, "feasible": ["6"], "front": ["6"]}
    content |= {"on_targets": {"jetson": {**there, "picks": {}, "hypervolume": [], "verdict": ""}}}
    figures = {
        "map50_95": {"value": 0.47, "low": 0.46, "high": 0.48},
        "latency_ms": {"value": 6.0, "low": 5.9, "high": 6.1},
    }
    content |= {"baselines": [{"name": "uniform 0.3", "figures": figures, "note": "the usual way"}]}
    content |= {"rungs": [{"name": "one epoch", "correlation": 0.31}]}
    page = open_page(write_report(content, tmp_path / "report.html").as_uri() + "#tab=history&trial=6")
    drawn(page)
    assert "uniform 0.3" in page.inner_text("#front-figure") and "0.31" in page.inner_text("#rungs")
    assert "jetson" in page.inner_text("#drawer") and "12.5" in page.inner_text("#drawer")
    assert "A cheap score misleads" in page.inner_text("#health-list") or page.click("#tabhead-health") is None
    page.click("#tabhead-health")
    assert "A cheap score misleads" in page.inner_text("#health-list")
    page.click("#tabhead-table")
    assert "uniform 0.3" in page.inner_text("#table") and "estimated" in page.inner_text("#table")


def test_baselines_of_one_kind_are_one_line_with_one_entry_in_the_legend(open_page: OpenPage, tmp_path: Path) -> None:
    def row(kind: str, name: str, value: float, latency: float) -> dict[str, Any]:
        figures = {"map50_95": {"value": value}, "latency_ms": {"value": latency}}
        return {"kind": kind, "name": name, "note": "", "figures": figures, "per_class": {}}

    rows = [row("uniform", f"uniform 0.{n}", 0.5 - n / 20, 9.0 - n) for n in (3, 1, 5, 2, 4)]
    content = {**snapshots.build(40), "baselines": [*rows, row("lower_size", "the base at 320 px", 0.4, 5.0)]}
    page = open_page(write_report(content, tmp_path / "report.html").as_uri())
    drawn(page)
    named = "(t.customdata || []).some((at) => /uniform|px/.test(at))"
    traces = page.evaluate(
        f"document.getElementById('front-figure').data.filter((t) => {named}).map((t) => [t.name, t.mode, t.x])"
    )
    assert traces == [["uniform", "lines+markers", [4, 5, 6, 7, 8]], ["the base at 320 px", "markers", [5]]]
    assert page.inner_text("#front-figure").count("uniform") == 1
