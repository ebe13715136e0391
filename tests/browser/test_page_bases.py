"""A study of two bases on the page: marks by base, and a drawer that says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.testing.known_bases import search_two_bases
from tests.browser.conftest import OpenPage
from tests.browser.driver import drawn

_MARKS = """() => document.querySelector('#front-figure').data
    .filter((trace) => Array.isArray(trace.marker?.symbol))
    .flatMap((trace) => trace.customdata.map((id, at) => [
        paretoprune.study.byPoint.get(id).candidate.base || 0, trace.marker.symbol[at]]))"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search_two_bases(tmp_path_factory.mktemp("two"), 14).report()


def test_marks_are_by_base_and_the_legend_says_which_is_whose(open_page: OpenPage, two: Path) -> None:
    page = open_page(two.as_uri())
    drawn(page)
    marks = page.evaluate(_MARKS)
    assert len(marks) >= 10 and {tuple(mark) for mark in marks} == {(0, "circle"), (1, "square")}
    legend = page.locator("#front-figure .legendtext").all_text_contents()
    assert {"of large", "of small", "large (unpruned)", "unpruned small"} <= set(legend)


def test_the_drawer_and_the_table_name_the_base(open_page: OpenPage, two: Path) -> None:
    page = open_page(two.as_uri())
    drawn(page)
    point = page.evaluate("paretoprune.study.rows.find(row => row.candidate.base && row.widths).id")
    page.evaluate("point => paretoprune.choose({trial: point})", point)
    assert "pruned from small" in page.inner_text("#drawer .drawer-top")
    widths = page.inner_text("#drawer h3:has-text('Widths')")
    assert widths.split(" of ")[1].split()[0] == "96", "three groups of 32 channels"
    page.click("#tabhead-compare")
    other = page.evaluate("paretoprune.study.rows.find(row => !row.candidate.base && row.widths).id")
    page.evaluate("([a, b]) => paretoprune.choose({tab: 'compare', a, b})", [point, other])
    assert "different bases" in page.inner_text("#compare-body")
    assert page.locator("#table th", has_text="base").count() == 1
