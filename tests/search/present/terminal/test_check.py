"""What `check` says about detection levels."""

from __future__ import annotations

from typing import Any

import pytest

from search.present.terminal.check import level_lines

USE = {"images": 128, "objects": 1790, "shares": {"P3": 0.9976, "P4": 0.002, "P5": 0.0004}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, []),
        (
            {**USE, "idle": ["P5"], "offered": []},
            ["P5 gets under 0.1 % of the assignments:", "  space.levels=true offers to remove it"],
        ),
        (
            {**USE, "idle": ["P4", "P5"], "offered": []},
            ["P4 and P5 get 0.24 % of the assignments:", "  space.levels=true offers to remove them"],
        ),
        ({**USE, "idle": ["P4", "P5"], "offered": ["P4", "P5"]}, ["P4 and P5 can be removed whole"]),
        ({**USE, "idle": [], "offered": []}, []),
    ],
)
def test_idle_levels_are_named_with_what_they_get(found: dict[str, Any] | None, expected: list[str]) -> None:
    lines = list(level_lines(found))
    assert lines[1:] == expected and all(len(line) < 80 for line in lines)
    if found is not None:
        assert lines[0] == "assignments of 1790 objects on 128 images: P3 99.8 %, P4 0.2 %, P5 under 0.1 %"
