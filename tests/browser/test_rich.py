"""What comes to a run later: exported points, another device's times, trials that were only estimated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.study import Study
from tests.browser.conftest import OpenPage
from tests.browser.driver import Serving, drawn
from tests.browser.rich import BASE_MS, DEVICE, EXPORTED, SCREENED, enrich

INT8 = "12-int8"


@pytest.fixture(scope="module")
def rich(studio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("rich") / "harbour"
    shutil.copytree(studio, run)
    return enrich(run)


@pytest.fixture(scope="module")
def serving(rich: Path) -> Iterator[Serving]:
    with Serving([rich]).running() as found:
        yield found


def snapshot(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "snapshot.json").read_text())
    return content


def front_of(page: Any) -> list[str]:
    """The trials and exports that the table calls the front, by id."""
    page.select_option("#table-show", "front")
    rows = page.locator("#table tbody tr[data-id]").evaluate_all("rows => rows.map(row => row.dataset.id)")
    page.select_option("#table-show", "all")
    return sorted(rows)


def test_the_front_is_shown_by_another_devices_times(open_page: OpenPage, serving: Serving, rich: Path) -> None:
    page = open_page(serving.address)
    drawn(page)
    view, own = snapshot(rich)["on_targets"][DEVICE], snapshot(rich)["front"]
    assert front_of(page) == sorted(own) and page.locator("#device-words").count() == 0
    page.select_option("#on", DEVICE)
    assert front_of(page) == sorted(view["front"]) != sorted(own)
    words = page.inner_text("#device-words").strip()
    assert words.startswith("By the times of pi5, Cortex-A76:") and f"{len(view['latency_ms'])} trials" in words
    assert "By the times of pi5" in page.inner_text("#summary-text") and "latency on pi5" in page.inner_text("#table")
    assert f"on={DEVICE}" in page.url and "60.0 ms" in page.inner_text("#tiles")
    page.select_option("#on", "-")
    assert front_of(page) == sorted(own)


def test_the_ranks_that_changed_are_shown(open_page: OpenPage, serving: Serving, rich: Path) -> None:
    page = open_page(f"{serving.address}#on={DEVICE}&trial={EXPORTED}")
    drawn(page)
    content = snapshot(rich)
    there = {int(n): ms[0] for n, ms in content["on_targets"][DEVICE]["latency_ms"].items()}
    rows = [row for row in content["trials"] if row["figures"] and not row["exported"]]
    here = {row["number"]: row["figures"]["latency_ms"]["value"] for row in rows}
    now = sorted(there, key=lambda n: (there[n], n)).index(EXPORTED) + 1
    was = sorted(there, key=lambda n: (here[n], n)).index(EXPORTED) + 1
    assert now != was, "the device turns the order round"
    assert f"{was} by the study's own times, of {len(there)}" in page.inner_text("#drawer")
    step = f"{'▲' if was > now else '▼'} {abs(was - now)}"
    assert f"{now}{step}" in page.inner_text(f"#table tr[data-id='{EXPORTED}']").replace("\t", "").replace("\n", "")
    assert "not timed on pi5" in page.inner_text("#table tr[data-id='13']")


def test_a_report_for_a_device_opens_by_its_times(open_page: OpenPage, rich: Path, tmp_path: Path) -> None:
    path = Study.load(rich).report(tmp_path / "report.html", DEVICE)
    page = open_page(path.as_uri())
    drawn(page)
    assert page.input_value("#on") == DEVICE and f"{BASE_MS:.1f} ms" in page.inner_text("#tiles")
    page.select_option("#on", "-")
    assert page.locator("#device-words").count() == 0 and "on=-" in page.url
    again = open_page(path.as_uri() + "#on=-")
    drawn(again)
    assert again.input_value("#on") == "-", "the choice can be sent to somebody"


def test_an_exported_point_has_a_name_and_a_drawer(open_page: OpenPage, serving: Serving) -> None:
    page = open_page(f"{serving.address}#trial={INT8}&tab=history")
    drawn(page)
    page.wait_for_selector("#drawer .files")
    assert page.inner_text("#drawer-title").startswith("Trial 12-int8")
    text = page.inner_text("#drawer")
    assert "paretoprune show" in text and "harbour:12-int8" in text and "exports/0012-int8.json" in text
    assert page.locator("#drawer button:has-text('export…')").count() == 0, "it is an export"
    assert page.evaluate("document.getElementById('best-figure')._fullLayout.xaxis.range[1]") < 100
    page.click("#drawer button:has-text('trial 12')")
    page.wait_for_selector("#drawer .shots")
    assert "int8" not in page.inner_text("#drawer-title")
    page.click("#tabhead-table")
    page.select_option("#table-show", "exported")
    assert page.inner_text("#table tbody tr[data-id] td").startswith("12-int8")
    assert page.evaluate("paretoprune.tableCsv()").splitlines()[1].startswith("12-int8,")
    answer = page.request.post(
        f"{serving.address}api/runs/{page.input_value('#runs')}/trials/{INT8}/export",
        data={"formats": ["onnx"], "confirmed": True},
    )
    assert answer.status == 422 and "export already" in answer.json()["detail"]


def test_a_screened_trial_is_greyed_and_called_an_estimate(open_page: OpenPage, serving: Serving, rich: Path) -> None:
    page = open_page(f"{serving.address}#trial={SCREENED}&range=all")
    drawn(page)
    (row,) = [row for row in snapshot(rich)["trials"] if row["number"] == SCREENED]
    expected = row["expected"]["map50_95"]
    assert 0 < expected < 0.52 and row["state"] == "screened"
    assert f"≈ {expected:.3f}" in page.inner_text("#drawer") and "Screened" in page.inner_text("#drawer")
    page.select_option("#table-show", "estimated")
    assert f"≈ {expected:.3f}" in page.inner_text(f"#table tr.grey[data-id='{SCREENED}']")
    assert "estimated" in page.text_content("#front-figure .legend") and "1 screened" in page.inner_text("#tiles")
    page.select_option("#table-show", "failed")
    assert page.locator("#table tbody tr[data-id]").count() == 2, "a screened trial has not failed"


def test_a_jump_within_the_page_keeps_the_view(open_page: OpenPage, rich: Path, tmp_path: Path) -> None:
    page = open_page(Study.load(rich).report(tmp_path / "report.html").as_uri() + "#trial=12")
    drawn(page)
    page.evaluate("() => { window.jumps = 0; addEventListener('hashchange', () => { window.jumps += 1; }); }")
    page.focus(".skip")
    page.keyboard.press("Enter")
    page.wait_for_function("() => window.jumps > 0")  # heard after the page has heard of it
    assert "trial=12" in page.url and page.is_visible("#drawer")
    page.evaluate("location.hash = 'trial=13&tab=heat'")
    page.wait_for_selector("#drawer-title:has-text('Trial 13')")
    assert page.is_visible("#tab-heat")
