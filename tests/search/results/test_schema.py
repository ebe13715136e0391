"""snapshot.json is what its schema says, and the page reads nothing that is not in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from search.results.schema import SCHEMA, Snapshot, TrialRow, schema_text
from tests.search.conftest import MakeStudy
from tests.search.present import snapshots

PAGE = Path(__file__).parents[3] / "search" / "present" / "page"
ADDED_TO_HEAD = {
    *("run", "summary", "health", "dimensions", "classes", "described", "whatif", "marks", "waiting", "sensitivity"),
    *("tight", "shown_on", "formats", "details", "base_samples"),
}
"""Keys that `page_data`, the server and the report add to the snapshot's."""
ADDED_TO_ROW = {"ratios", "untimed", "own", "name", "note", "dataset", "rung"}
"""Keys of a row that `page_data` and the page itself add; a baseline's `name` and `note`, `dataset` of the DOM."""


def test_the_committed_schema_is_current() -> None:
    """`python -c "from search.results.schema import write_schema; write_schema()"` writes it anew."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def check(content: Any) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.validate(content, schema)
    assert set(content) == set(schema["required"])
    for row in content["trials"]:
        assert set(row) == set(schema["$defs"]["TrialRow"]["required"])


@pytest.mark.parametrize("budgets", [{}, {"edge": {"latency_ms": 6}, "none": {"latency_ms": 0.1}}])
def test_what_a_search_writes_follows_the_schema(make_study: MakeStudy, budgets: dict[str, Any]) -> None:
    study = make_study(**{"search.trials": 6, "budgets": budgets, "constraints": {"latency_ms": 9.5}}).search()
    check(json.loads(study.record.snapshot_path.read_text(encoding="utf-8")))


def test_a_run_without_trials_follows_the_schema(make_study: MakeStudy) -> None:
    study = make_study()
    study.prepare()
    check(json.loads(json.dumps(study.snapshot())))


def test_what_the_tests_of_the_page_draw_follows_the_schema() -> None:
    check(snapshots.build(20))


@pytest.mark.parametrize("change", [{"front": [1.5]}, {"base": {"figures": {}}}, {"verdict": None}])
def test_what_does_not_follow_it_is_found(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        check(snapshots.build(5, **change))


def read_by_the_page(name: str) -> set[str]:
    """Keys that the page's modules read of what they call `name`."""
    sources = [path.read_text(encoding="utf-8") for path in sorted(PAGE.rglob("*.js"))]
    return {key for source in sources for key in re.findall(rf"\b{name}\.([a-z_]+)\b", source)}


def test_the_page_reads_only_what_there_is() -> None:
    head, row = read_by_the_page("(?:head|told)"), read_by_the_page("row")
    assert len(head) > 20 and len(row) > 15
    assert head <= Snapshot.__annotations__.keys() | ADDED_TO_HEAD
    assert row <= _all_keys(TrialRow) | ADDED_TO_ROW


def _all_keys(record: Any) -> set[str]:
    return record.__required_keys__ | record.__optional_keys__
