"""docs/reference.md is what the code says, and explains every key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs import reference_page as maker

ROOT = Path(__file__).parents[2]


def test_the_committed_page_is_what_is_generated(tmp_path: Path) -> None:
    """In a process of its own: tests register figures of tasks of their own."""
    out = tmp_path / "reference.md"
    subprocess.run([sys.executable, str(ROOT / "docs" / "reference_page.py"), "--out", str(out)], check=True)
    assert out.read_text() == (ROOT / "docs" / "reference.md").read_text(), "run make reference and commit the page"


def test_a_key_without_a_meaning_and_a_meaning_without_a_key_are_errors() -> None:
    means = yaml.safe_load(maker.KEYS.read_text())
    with pytest.raises(KeyError, match=r"keep\.max_gb"):
        maker.page({key: text for key, text in means.items() if key != "keep.max_gb"})
    with pytest.raises(ValueError, match=r"search\.trails"):
        maker.page({**means, "search.trails": "misspelt"})


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 1000000}, "whole number, 1 to 1,000,000"),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "number, above 0 to 1"),
        ({"type": "number", "minimum": 0}, "number, 0 or more"),
        ({"type": "integer", "minimum": 0, "exclusiveMaximum": 10}, "whole number, 0 to below 10"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text"),
        ({"type": "array", "items": {"enum": ["fp32", "int8"]}}, "list of `fp32`, `int8`"),
        ({"type": "array", "prefixItems": [{"type": "number"}, {"type": "number"}]}, "2 numbers"),
    ],
)
def test_types_in_words(part: dict[str, object], words: str) -> None:
    assert maker.type_of(part) == words


def test_what_is_fixed_and_what_init_writes() -> None:
    fixed = maker.fixed_keys()
    assert {"search.seed", "recover.epochs", "latency.runtime", "imgsz", "model"} <= fixed
    assert not {"search.trials", "search.hours", "budgets", "keep.max_gb", "device", "name"} & fixed
    assert maker.starter()["search.hours"] == 9 and maker.starter()["space.depth"] is True
