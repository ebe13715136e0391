"""What a reader does with a finished run, on the live page."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from search.commands.pick import choose
from search.study import Study
from tests.browser.conftest import OpenPage
from tests.browser.driver import Serving, drawn

TABS = ("table", "heat", "curves", "history", "failures", "health", "compare", "whatif", "run")


def opened(open_page: OpenPage, served: Serving, state: str = "", **options: Any) -> Any:
    """The dashboard in a state of its address, drawn."""
    page = open_page(served.address + (f"#{state}" if state else ""), **options)
    drawn(page)
    return page


def pixel_of(page: Any, point: str) -> tuple[float, float]:
    """Where a trial's point lies in the window."""
    x, y = page.evaluate(
        """point => {
            const gd = document.getElementById("front-figure"), box = gd.getBoundingClientRect();
            const row = paretoprune.study.byPoint.get(point);
            const layout = gd._fullLayout, at = (axis, name) => axis._offset + axis.d2p(row.figures[name][0]);
            return [box.left + at(layout.xaxis, "latency_ms"), box.top + at(layout.yaxis, "map50_95")];
        }""",
        point,
    )
    return x, y


def test_the_header_says_how_the_search_stands(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served)
    assert page.inner_text("#name") == "harbour" and page.inner_text("#state") == "finished"
    tiles = page.inner_text("#tiles")
    assert "28 of 30" in tiles and "2 failed" in tiles and "hypervolume" in tiles
    assert "harbour has finished" in page.inner_text("#summary-text")


@pytest.mark.parametrize("limit", [4.0, 5.5, 7.0])
def test_the_budget_picks_what_the_command_line_picks(
    open_page: OpenPage, served: Serving, studio: Path, limit: float
) -> None:
    page = opened(open_page, served)
    page.fill("#budget-number", str(limit))
    picked = choose(Study.load(studio).selection, [f"latency_ms={limit}"], [], None, knee=False, one_se=False)
    assert picked.trial is not None
    page.wait_for_selector(f"#budget-text button:has-text('open trial {picked.trial.number}')")
    rows = [row for row in json.loads((studio / "snapshot.json").read_text())["trials"] if row["feasible"]]
    fit = sum(row["figures"]["latency_ms"]["value"] <= limit for row in rows)
    assert page.inner_text("#budget-text").startswith(f"{fit} of {len(rows)} fit; best ")
    assert "faster than the base" in page.inner_text("#budget-text")
    assert f"pick: trial {picked.trial.number}" in page.inner_text("#front-figure")


def test_a_budget_that_nothing_meets_names_the_closest(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served, "budget=latency_ms:0.1")
    assert page.inner_text("#budget-text").startswith("None of 2") and "the closest is trial" in page.inner_text(
        "#budget-text"
    )


def test_the_slider_and_the_named_budgets_move_the_number(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served)
    assert page.input_value("#budget-number") == "5"
    page.focus("#budget-slider")
    page.keyboard.press("ArrowRight")
    assert float(page.input_value("#budget-number")) > 5
    page.click("#budget-names button:has-text('tiny')")
    assert page.input_value("#budget-by") == "params_m" and page.input_value("#budget-number") == "0.6"


def test_a_click_on_a_point_opens_its_drawer(open_page: OpenPage, served: Serving, studio: Path) -> None:
    page = opened(open_page, served, height=1300)
    point = json.loads((studio / "snapshot.json").read_text())["front"][2]
    page.mouse.move(*pixel_of(page, point))
    page.wait_for_selector("#tip:not([hidden])")
    assert f"trial {point}" in page.inner_text("#tip")
    page.mouse.click(*pixel_of(page, point))
    page.wait_for_selector(f"#drawer-title:has-text('Trial {point}')")
    assert f"trial={point}" in page.url


def test_the_drawer_holds_everything_about_the_trial(open_page: OpenPage, served: Serving, studio: Path) -> None:
    page = opened(open_page, served, "trial=12")
    content = json.loads((studio / "snapshot.json").read_text())
    row = next(row for row in content["trials"] if row["number"] == 12)
    page.wait_for_selector("#drawer .shots img")
    text = page.inner_text("#drawer")
    assert f"{row['figures']['map50_95']['value']:.3f}" in text and f"{row['figures']['params_m']['value']:.2f}" in text
    free = [group for group in content["groups"] if not group["frozen"]]
    assert page.locator("#drawer .sky .col").count() == len(free)
    assert [page.inner_text(f"#drawer .zone:nth-child({at}) > p") for at in (1, 2, 3, 4)] == [
        "stem",
        "backbone",
        "neck",
        "head",
    ]
    assert page.locator("#drawer .sky .tied").count() >= 8, "tied groups are linked"
    name = free[3]["name"]
    label = page.get_attribute(f"#drawer .col[aria-label^='{name}:']", "aria-label")
    assert label.startswith(f"{name}: {row['widths'][name]} of {free[3]['size']}")
    assert all(name in text for name in ("plane", "storage tank", "result.json", "paretoprune export"))
    assert page.evaluate(
        "[...document.querySelectorAll('#drawer .shots img')].every(image => image.naturalWidth === 160)"
    )


def test_the_edge_of_the_samples_moves(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served, "trial=12")
    page.wait_for_selector("#drawer .shots")
    page.focus("#drawer .shots + input")
    page.keyboard.press("Home")
    assert page.evaluate("getComputedStyle(document.querySelector('.shots')).getPropertyValue('--cut-at')") == "0%"


def test_a_file_opens_by_an_opaque_address(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served, "trial=12")
    link = page.wait_for_selector("#drawer .files a:has-text('result.json')")
    address = link.get_attribute("href")
    assert address.startswith("/artefacts/") and "result" not in address
    answer = page.request.get(served.address.rstrip("/") + address)
    assert answer.status == 200 and answer.json()["state"] == "complete"


def test_the_keyboard_reaches_every_trial(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the trials"
    page.keyboard.press("Enter")
    page.focus("#tabhead-table")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("Boolean(document.activeElement.closest('#table tbody'))"):
            break
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.id") == "2"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "drawer-title"
    assert "Trial 2" in page.inner_text("#said"), "the choice is announced"
    page.keyboard.press("Escape")
    assert page.is_hidden("#drawer") and page.evaluate("document.activeElement.dataset.id") == "2"
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.dataset.id") == "29"


def test_arrow_keys_move_between_tabs_and_along_the_bars(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served, "trial=12")
    page.focus("#tabhead-table")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tabhead-heat" and page.is_visible("#tab-heat")
    page.keyboard.press("End")
    assert page.is_visible("#tab-run")
    page.focus("#drawer .sky .col[tabindex='0']")
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") != first


def test_focus_is_visible(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served)
    page.focus("#tabhead-table")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_table_sorts_filters_and_saves_what_it_shows(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served)
    page.click("#table thead button:has-text('latency')")
    page.click("#table thead button:has-text('latency')")
    assert page.get_attribute("#table thead th[aria-sort]", "aria-sort") == "descending"
    page.select_option("#table-show", "front")
    shown = page.locator("#table tbody tr[data-id]").count()
    assert shown == len(page.evaluate("paretoprune.study.head.front"))
    with page.expect_download() as download:
        page.click("#table-csv")
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    values = [float(row["latency_ms"]) for row in rows]
    assert len(rows) == shown and values == sorted(values, reverse=True)
    page.fill("#table-search", "no such words")
    page.wait_for_function("() => document.querySelectorAll('#table tbody tr[data-id]').length === 0")


def test_failures_are_grouped_by_cause(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served, "tab=failures")
    assert page.locator("#failure-list details").count() == 1, "two trials, one cause"
    assert page.inner_text("#failure-list summary").startswith("2 \u00d7")
    page.click("#failure-list summary")
    page.click("#failure-list button:has-text('trial 7')")
    assert "out_of_memory" in page.inner_text("#drawer")


def test_two_trials_are_compared_layer_by_layer(open_page: OpenPage, served: Serving, studio: Path) -> None:
    page = opened(open_page, served, "tab=compare&a=12&b=13")
    text = page.inner_text("#compare-body")
    rows = {row["number"]: row["widths"] for row in json.loads((studio / "snapshot.json").read_text())["trials"]}
    frozen = {
        group["name"] for group in json.loads((studio / "snapshot.json").read_text())["groups"] if group["frozen"]
    }
    assert "trial 12" in text and "The largest differences" in text
    assert len(rows[12]) > len(frozen)


def test_two_studies_are_compared_by_their_fronts(open_page: OpenPage, studio: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(studio, other)
    content = json.loads((other / "snapshot.json").read_text())
    worse = [{**row, "on_front": False} if row["id"] == content["front"][0] else row for row in content["trials"]]
    (other / "snapshot.json").write_text(
        json.dumps({**content, "name": "less", "trials": worse, "front": content["front"][1:]})
    )
    with Serving([studio, other]).running() as served:
        page = opened(open_page, served, "tab=compare")
        page.select_option("#compare-run", label="less")
        page.wait_for_function("() => document.getElementById('compare-words').textContent.includes('Hypervolume')")
        assert " in less: \u2212" in page.inner_text("#compare-words")


def test_hypervolume_is_that_of_moocore(open_page: OpenPage, served: Serving) -> None:
    import moocore
    import numpy as np

    points = np.random.default_rng(3).random((40, 3))
    page = opened(open_page, served)
    found = page.evaluate("points => paretoprune.hypervolume(points, [1, 1, 1])", points.tolist())
    assert found == pytest.approx(float(moocore.hypervolume(points, ref=[1, 1, 1])), rel=1e-9)


def test_a_view_can_be_sent_to_somebody(open_page: OpenPage, served: Serving) -> None:
    state = "trial=12&tab=heat&x=macs_g&colour=latency_ms&range=all&budget=params_m%3A0.9"
    page = opened(open_page, served, state)
    assert page.input_value("#axis-x") == "macs_g" and page.input_value("#range") == "all"
    assert page.is_visible("#tab-heat") and "Trial 12" in page.inner_text("#drawer-title")
    assert page.input_value("#budget-by") == "params_m"
    page.select_option("#axis-y", "params_m")
    page.click("#tabhead-history")
    again = opened(open_page, served, page.url.partition("#")[2])
    assert again.input_value("#axis-y") == "params_m" and again.is_visible("#tab-history")


@pytest.mark.parametrize("width", [1280, 640])
def test_nothing_scrolls_sideways(open_page: OpenPage, served: Serving, width: int) -> None:
    """1280 px, and the 640 px that a window of 1280 has at 200 % zoom; with and without the drawer."""
    page = opened(open_page, served, "trial=12", width=width)
    page.wait_for_selector("#drawer .shots")
    for trial in ("12", ""):
        page.evaluate("trial => paretoprune.choose({trial})", trial)
        for tab in TABS:
            page.click(f"#tabhead-{tab}")
            assert page.evaluate("document.scrollingElement.scrollWidth") <= width, tab


def test_dark_and_light_can_be_chosen(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(14, 19, 23)"
    page.click("#theme")
    assert page.evaluate(background) == "rgb(244, 246, 248)"
    assert page.evaluate("document.querySelector('#front-figure .main-svg').style.background") == "rgb(255, 255, 255)"


def test_note_and_pin_are_kept_in_the_run(open_page: OpenPage, studio: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(studio, run)
    with Serving([run]).running() as served:
        page = opened(open_page, served, "trial=12")
        page.fill("#drawer textarea", "looks good on ships <b>")
        page.click("#drawer button:has-text('save the note')")
        page.wait_for_selector("#table tbody td:has-text('looks good on ships <b>')")
        page.click("#drawer button:has-text('pin')")
        page.wait_for_selector("#drawer .tag.pin")
        page.select_option("#table-show", "pinned")
        assert page.locator("#table tbody tr[data-id]").count() == 1
    kept = json.loads((run / "marks.json").read_text())["trials"]
    assert kept == {"12": {"note": "looks good on ships <b>", "pinned": True}}


def test_a_double_click_gives_the_range_back(open_page: OpenPage, served: Serving) -> None:
    page = opened(open_page, served)
    read = "document.getElementById('front-figure')._fullLayout.xaxis.range.slice()"
    whole = page.evaluate(read)
    box = page.locator("#front-figure .nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"], steps=4)
    page.mouse.up()
    assert page.evaluate(read) != whole
    page.evaluate("document.getElementById('front-figure').emit('plotly_doubleclick')")  # a point under it would open
    page.wait_for_function(f"whole => String({read}) === String(whole)", arg=whole)
