"""What a study of two bases shows: one front, which base each trial is of, and the base that was left."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from objectives.objective import OBJECTIVES
from search.errors import ConfigError
from search.present.page_data import page_data
from search.present.summary import summary
from search.present.terminal.status import render_status
from search.present.terminal.tables import trial_details
from search.references import resolve
from search.results import snapshot_reader as reading
from search.results.ranking import outermost
from search.study import Study
from search.testing.known_bases import ScaledEvaluator, search_two_bases
from search.testing.known_front import known_base
from search.trial import json_digest


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return search_two_bases(tmp_path_factory.mktemp("two"), 14)


def test_there_is_one_front_and_each_row_says_its_base(two: Study) -> None:
    content = two.snapshot()
    assert [base["name"] for base in content["bases"]] == ["large", "small"]
    front = [reading.base_name(content, row) for row in reading.front(content)]
    assert set(front) == {"large", "small"}
    for base in content["bases"]:
        assert base["on_front"] == front.count(base["name"]) and not base["is_left"]
    assert sum(base["trials"] for base in content["bases"]) == len(content["trials"]) == 14


def _table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_the_tables_on_disk_name_the_base(two: Study) -> None:
    rows, front = (_table(two.record.path / name) for name in ("results.csv", "pareto.csv"))
    places = [trial.candidate.base for trial in two.trials()]
    assert [row["base"] for row in rows] == [("large", "small")[place] for place in places]
    assert {row["base"] for row in front} == {"large", "small"}


def test_an_unpruned_base_is_a_row_and_the_first_is_the_reference(two: Study) -> None:
    content = two.snapshot()
    (row,) = [row for row in content["baselines"] if row["kind"] == "base"]
    assert (row["name"], row["figures"]["latency_ms"]["value"]) == ("unpruned small", pytest.approx(5.0))
    assert reading.value(reading.base(content), "latency_ms") == pytest.approx(10.0)


def test_widths_are_those_of_the_own_base(two: Study) -> None:
    content = two.snapshot()
    page = page_data(content, two.record.path)
    for row, drawn in zip(content["trials"], page["trials"], strict=True):
        of_small = reading.base_name(content, row) == "small"
        assert {group["size"] for group in reading.groups_of(content, row)} == {32 if of_small else 64}
        assert (drawn["candidate"].get("base", 0) == 1) is of_small is (drawn.get("ratios") is None)
    assert [base["name"] for base in page["bases"]] == ["large", "small"]


def test_the_terminal_names_the_base(two: Study) -> None:
    content = two.snapshot()
    point = next(row["id"] for row in content["trials"] if reading.base_name(content, row) == "small")
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(render_status(content), trial_details(content, point))
    text = console.export_text()
    assert "pruned from small" in text and "unpruned small" in text
    assert any(line.split()[:2] == ["unpruned", "small"] for line in text.splitlines() if line.strip())


def test_each_base_is_named_in_a_reference(two: Study) -> None:
    run = str(two.record.path)
    first, small = resolve(f"{run}:base"), resolve(f"{run}:small")
    assert (first.weights().name, first.name, small.weights().name, small.name) == (
        "large.pt",
        "base",
        "small.pt",
        "small",
    )
    assert small.measurement == two.results().further[0] and small.ref == f"{run}:small"
    of_small = next(trial for trial in two.trials() if trial.candidate.base)
    assert two.trial(of_small.number).spec.models == (str(small.weights()),)
    with pytest.raises(ConfigError, match="names no trial"):
        resolve(f"{run}:smal")


def test_a_run_is_loaded_and_gone_on_with(two: Study) -> None:
    loaded = Study.load(two.record.path)
    assert loaded.spec.models == two.spec.models
    assert loaded.trials() == two.trials() and loaded.front() == two.front()
    made = [base.compared() for base in two.results().bases]
    assert two.record.origin().base == json_digest(made), "every base is what the results are made of"


def test_a_base_that_was_left_is_said_to_be(tmp_path: Path) -> None:
    content = search_two_bases(tmp_path, 20, ScaledEvaluator(0.9, 0.3)).snapshot()
    small, said = content["bases"][1], " ".join(summary(content))
    assert small["is_left"] and small["trials"] < 10 and not content["bases"][0]["is_left"]
    assert f"left after trial {small['last']}: from then on trials of another base promised more." in said
    assert said.count("left after") == 1


def test_volume_counts_up_to_the_most_expensive_base() -> None:
    objectives = [OBJECTIVES["map50_95"], OBJECTIVES["latency_ms"]]
    small = ScaledEvaluator(0.5, 0.9).scaled(known_base())
    found = outermost([small, known_base()], objectives)
    assert found.figures["latency_ms"].value == pytest.approx(10.0)
    assert found.figures["map50_95"] == small.figures["map50_95"]
    assert outermost([small], objectives) is small
