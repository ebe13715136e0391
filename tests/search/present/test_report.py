"""The report: one file, offline, small, and inert whatever names it is given."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.present.page_data import page_data
from search.present.report import inert_json, module_order, page_script, render_page, write_report
from search.results.snapshot_reader import SnapshotError
from tests.search.present.hostile import HOSTILE, hostile


def own_part(page: str) -> str:
    """The page without plotly's library, which is the one script that starts with its banner."""
    found = re.sub(r"<script>/\*\*\s*\n\* plotly\.js.*?</script>", "", page, count=1, flags=re.S)
    assert len(found) < len(page) - 4_000_000
    return found


def embedded(page: str) -> Any:
    """The snapshot inside a page, read as a browser reads it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found is not None
    return json.loads(found[1])


def test_it_names_no_address_and_loads_nothing(build: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    page = write_report(build(60), tmp_path / "report.html").read_text(encoding="utf-8")
    own = own_part(page)
    assert not re.findall(r"https?://|//cdn|@import|url\(", own)
    assert not re.findall(r"<script[^>]*\ssrc|<link|<iframe|<img|<object|<embed", own)
    assert "default-src 'none'" in own and "connect-src 'none'" in own
    assert 'plotlyServerURL: ""' in own


def test_the_address_test_can_fail(build: Callable[..., dict[str, Any]]) -> None:
    snapshot = build(3, verdict="see https://example.org")
    assert re.findall(r"https?://", own_part(render_page(snapshot)))


def test_500_trials_are_at_most_6_mb(build: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    assert write_report(build(500), tmp_path / "report.html").stat().st_size <= 6_000_000


def test_it_is_whole_or_absent(build: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    target = tmp_path / "runs" / "report.html"
    write_report(build(3), target)
    before = target.read_bytes()
    with pytest.raises(SnapshotError, match="expected: format 2"):
        write_report(build(3, format=3), target)
    assert target.read_bytes() == before
    assert [file.name for file in target.parent.iterdir()] == ["report.html"]


def test_the_snapshot_survives_the_page(build: Callable[..., dict[str, Any]]) -> None:
    snapshot = hostile(build)
    read = embedded(render_page(page_data(snapshot)))
    assert read == json.loads(json.dumps(page_data(snapshot)))
    assert read["name"] == snapshot["name"]
    assert len(read["trials"]) == 30


def test_no_byte_of_a_name_is_markup(build: Callable[..., dict[str, Any]]) -> None:
    safe, attacked = render_page(page_data(build(30))), render_page(page_data(hostile(build)))
    assert attacked.count("<") == safe.count("<")
    assert HOSTILE not in attacked


@pytest.mark.parametrize("text", ["<", ">", "&", "\u2028", "\u2029", "</ScRipt", "<!--", '"', "\\", "\x00é漢🙂"])
def test_inert_json_round_trips_without_markup(text: str) -> None:
    written = inert_json({text: text})
    assert json.loads(written) == {text: text}
    assert not set(written) & set("<>&\u2028\u2029")


def test_the_data_are_small_and_hold_what_is_drawn(build: Callable[..., dict[str, Any]]) -> None:
    snapshot = build(40)
    snapshot["trials"][0]["seconds"]["recover"] = math.nan
    data = page_data(snapshot)
    names = [group["name"] for group in data["groups"]]
    assert data["trials"][0]["seconds"]["recover"] is None
    for row, small in zip(snapshot["trials"], data["trials"], strict=True):
        assert dict(zip(names, small["widths"] or [], strict=bool(small["widths"]))) == row["widths"]
        ratios = row["candidate"]["ratios"]
        assert small["ratios"] == [round(ratios[name], 4) for name in data["dimensions"]]
    assert "ratios" in snapshot["trials"][0]["candidate"], "the caller's snapshot must not change"
    assert len(inert_json(data["trials"])) < 0.35 * len(inert_json(snapshot["trials"][1:]))


def test_own_scripts_never_turn_text_into_markup() -> None:
    source = page_script()
    assert len(module_order("main.js")) >= 15 and "function drawDrawer" in source
    assert not re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", source)


def test_a_live_page_may_read_its_own_server_only() -> None:
    page = render_page(None, connect="'self'")
    assert "connect-src 'self'" in page and "unsafe-eval" not in page.split("</head>")[0]
    assert '<script type="application/json" id="data"></script>' in page


def test_every_figure_says_which_way_is_better(build: Callable[..., dict[str, Any]]) -> None:
    """Also one that is no objective: a fall of an accuracy must not look like a gain."""
    snapshot = build(4)
    snapshot["trials"][0]["figures"] |= {"map_small": {"value": 0.4}, "own_cost": {"value": 3.0}}
    described = page_data(snapshot)["described"]
    assert described["map_small"] == {"title": "mAP50-95 of small objects", "unit": "", "direction": "max"}
    assert described["latency_ms"]["direction"] == "min" and described["own_cost"]["title"] == "own_cost"
