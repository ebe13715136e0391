"""Rows as the live page gets them: made once, and again when they change."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from search.present.dashboard.live import Rows
from search.present.page_data import page_data, page_head


def test_only_what_has_changed_is_made_again(build: Callable[..., dict[str, Any]]) -> None:
    snapshot, rows = build(20), Rows()
    _, frame = page_head(snapshot)
    first = rows.texts(snapshot["trials"], frame)
    assert [json.loads(text) for text in first.values()] == page_data(snapshot)["trials"]
    later = copy.deepcopy(snapshot["trials"])
    later[7]["figures"]["latency_ms"]["value"] = 1.25
    second = rows.texts(later, frame)
    assert [point for point in first if second[point] is not first[point]] == ["7"]
    assert json.loads(second["7"])["figures"]["latency_ms"][0] == 1.25


def test_rows_of_another_shape_are_all_made_again(build: Callable[..., dict[str, Any]]) -> None:
    snapshot, rows = build(5), Rows()
    _, frame = page_head(snapshot)
    rows.texts(snapshot["trials"], frame)
    fewer = replace(frame, classes=(), dimensions=frame.dimensions[:3])
    found = rows.texts(snapshot["trials"], fewer)
    assert all(len(json.loads(text)["ratios"]) == 3 for text in found.values())
