"""Who the page must be safe for and usable by: screen readers, hostile names, other sites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.present.report import write_report
from tests.browser.conftest import OpenPage
from tests.browser.driver import Serving, drawn
from tests.search.present import snapshots
from tests.search.present.hostile import HOSTILE, hostile

TABS = ("table", "heat", "curves", "history", "failures", "health", "compare", "whatif", "run")
FAILED_IMAGE = (
    "() => new Promise(done => Object.assign(new Image(), {onerror: done, src: 'data:image/png;base64,AAAA'}))"
)
COLOURS = ("color-contrast", "link-in-text-block")


def serious(page: Any, rules: tuple[str, ...] = ()) -> list[str]:
    """Findings of axe-core that keep somebody out: by some rules, or by all."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    options = {"resultTypes": ["violations"], **({"runOnly": {"type": "rule", "values": rules}} if rules else {})}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(("scheme", "rules"), [("light", ()), ("dark", COLOURS)])
def test_axe_has_no_serious_finding(open_page: OpenPage, served: Serving, scheme: str, rules: tuple[str, ...]) -> None:
    """Of dark and light only colours differ."""
    page = open_page(f"{served.address}#trial=12", color_scheme=scheme, bypass_csp=True)
    drawn(page)
    page.wait_for_selector("#drawer .shots")
    for tab in TABS:
        page.click(f"#tabhead-{tab}")
        assert serious(page, rules) == [], tab


def test_axe_can_find_something(open_page: OpenPage, served: Serving) -> None:
    page = open_page(served.address, bypass_csp=True)
    drawn(page)
    page.evaluate(
        "document.getElementById('tiles').before(document.createElement('img'), document.createElement('button'))"
    )
    assert len(serious(page)) >= 2 and serious(page, COLOURS) == []
    page.evaluate("document.getElementById('name').style.color = getComputedStyle(document.body).backgroundColor")
    assert serious(page, COLOURS) != []


def test_the_export_dialog_is_accessible_and_closes_with_escape(open_page: OpenPage, served: Serving) -> None:
    page = open_page(f"{served.address}#trial=12", bypass_csp=True)
    drawn(page)
    page.click("#drawer button:has-text('export')")
    assert serious(page) == []
    page.keyboard.press("Escape")
    assert not page.evaluate("document.getElementById('dialog').open") and page.is_visible("#drawer")


def test_hostile_names_are_text_everywhere(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(write_report(hostile(snapshots.build), tmp_path / "report.html").as_uri() + "#trial=3")
    shouted: list[str] = []
    page.on("dialog", lambda dialog: (shouted.append(dialog.message), dialog.dismiss()))
    drawn(page)
    for tab in TABS:
        page.click(f"#tabhead-{tab}")
        page.evaluate(FAILED_IMAGE)  # one that the tab began to load before would have shouted by now
    page.mouse.move(640, 520)
    assert shouted == [] and page.locator("img[src='x']").count() == 0
    assert HOSTILE in page.inner_text("#name") and HOSTILE in page.inner_text("#summary-text")
    assert page.locator("script").count() == 3


def test_no_script_may_make_code_from_text(open_page: OpenPage, served: Serving) -> None:
    page = open_page(served.address)
    drawn(page)
    page.evaluate("""() => setTimeout(() => {
        const made = document.createElement("script");
        made.textContent = "window.hurt = true";
        document.body.append(made);
        try { window.hurt = window.eval("true"); } catch (error) { window.refused = error.name; }
    })""")
    page.wait_for_function("() => window.refused || window.hurt")
    assert page.evaluate("window.hurt") is None and page.evaluate("window.refused") == "EvalError"
    page.said.clear()  # the browser reports both


def test_another_site_can_neither_read_nor_ask(
    open_page: OpenPage, browser: Any, served: Serving, studio: Path
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.route("http://evil.example/**", lambda route: route.fulfill(body="<p>evil", content_type="text/html"))
    page.goto("http://evil.example/")
    ask = """async address => {
        const answers = [];
        const post = {method: "POST", body: "{}", mode: "no-cors"};
        for (const [path, more] of [["api/runs", {}], ["api/runs/x/fill", post]])
            answers.push(await fetch(address + path, more).then(got => got.type + got.status, error => error.name));
        return answers;
    }"""
    assert page.evaluate(ask, served.address) in (["TypeError", "opaque0"], ["TypeError", "TypeError"])
    context.close()
