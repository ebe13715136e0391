"""What a terminal shows: everything in 80 columns, differences to the base, names as text."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console, RenderableType

from search.present.terminal.status import render_status
from search.present.terminal.tables import front_table, trial_details, trials_table
from search.results.snapshot_reader import SnapshotError, UnknownTrial, describe, difference, duration, figures, printed

Build = Callable[..., dict[str, Any]]


def text_of(renderable: RenderableType, width: int = 80) -> str:
    """What a terminal of this width shows."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, legacy_windows=False).print(renderable)
    return out.getvalue()


def test_the_status_says_where_the_search_stands(build: Build) -> None:
    progress = {"done": 53, "failed": 7, "running": 2, "total": 150, "seconds": 4000, "eta_s": 5000}
    snapshot = build(60, state="running", progress=progress)
    shown = text_of(render_status(snapshot))
    for piece in ("drone-5ms", "running", "53 of 150 done, 7 failed, 2 running", "67 min, about 83 min left"):
        assert piece in shown
    assert "latency_ms <= 5" in shown and f"trial {snapshot['picks']['edge']['trial']}" in shown
    assert f"{snapshot['hypervolume'][-1]['value']:.4g}" in shown


def test_the_front_is_sorted_by_cost_and_starts_with_the_base(build: Build) -> None:
    snapshot = build(60)
    lines = text_of(front_table(snapshot)).splitlines()
    assert lines[1].split()[:3] == ["base", "0.508", "9.10"]
    points = [line.split()[0] for line in lines[2:]]
    assert sorted(points, key=int) == snapshot["front"]
    latencies = [snapshot["trials"][int(point)]["figures"]["latency_ms"]["value"] for point in points]
    assert latencies == sorted(latencies)


def test_differences_to_the_base_are_shown(build: Build) -> None:
    snapshot = build(60)
    point = snapshot["picks"]["edge"]["trial"]
    shown = text_of(trial_details(snapshot, point))
    latency = snapshot["trials"][int(point)]["figures"]["latency_ms"]["value"]
    accuracy = snapshot["trials"][int(point)]["figures"]["map50_95"]["value"]
    assert f"{9.1 / latency:.2f}x faster" in shown
    assert f"{(accuracy - 0.508) * 100:+.1f} pt" in shown
    assert "pick for edge" in shown and "95 % interval" in shown


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_number_is_cut_in_80_columns(build: Build, width: int) -> None:
    snapshot = build(60)
    for table in (front_table(snapshot), trials_table(snapshot)):
        lines = text_of(table, width).splitlines()
        assert all(len(line) <= width for line in lines)
        assert not any("…" in line[:62] for line in lines)


def test_every_trial_has_a_row(build: Build) -> None:
    snapshot = build(40)
    lines = text_of(trials_table(snapshot), 120).splitlines()
    assert len(lines) == 42
    failed = next(row for row in snapshot["trials"] if row["state"] == "failed")
    assert "failed: " in lines[2 + failed["number"]]


def test_names_are_not_markup(build: Build) -> None:
    snapshot = build(30, name="[red]x[/red]", verdict="[bold]y[/")
    snapshot["trials"][0].update(state="failed", error="[/oops]", source="[link=x]")
    shown = text_of(render_status(snapshot)) + text_of(trials_table(snapshot), 160)
    shown += text_of(trial_details(snapshot, "0"))
    for piece in ("[red]x[/red]", "[bold]y[/", "failed: [/oops]", "[link=x]"):
        assert piece in shown


def test_a_trial_that_is_not_there(build: Build) -> None:
    with pytest.raises(UnknownTrial, match=r"there is no trial 99\n  expected: a number from 0 to 9"):
        trial_details(build(10), "99")


def test_a_snapshot_of_another_format(build: Build) -> None:
    with pytest.raises(SnapshotError, match="this snapshot has format 7"):
        render_status(build(3, format=7))


def test_a_search_without_a_base_or_trials(build: Build) -> None:
    shown = text_of(render_status(build(0, base=None, picks={}, state="running")))
    assert "0 of 0 done" in shown and "nothing fits yet" in shown


def test_digits_follow_the_base(build: Build) -> None:
    snapshot = build(1)
    snapshot["base"]["figures"]["params_m"]["value"] = 0.0123
    assert printed(describe(snapshot, "params_m"), 0.0049) == "0.0049"
    snapshot["base"]["figures"]["latency_ms"]["value"] = 123.4
    assert printed(describe(snapshot, "latency_ms"), 88.88) == "88.9"
    assert printed(describe(snapshot, "map50_95"), None) == "-"


@pytest.mark.parametrize(("said", "heading"), [("kB", "Own kB"), ("MB", "memory MB")])
def test_a_figure_of_a_task_of_ones_own_has_its_own_unit(build: Build, said: str, heading: str) -> None:
    own = {"name": "memory_mb", "unit": said, "direction": "min", "title": "Own"}
    assert describe({**build(1), "objectives": [own]}, "memory_mb").heading == heading


def test_an_unknown_figure_is_named_by_the_study(build: Build) -> None:
    snapshot = build(1)
    snapshot["objectives"].append({"name": "watts", "unit": "W", "direction": "min", "title": "power"})
    watts = next(figure for figure in figures(snapshot) if figure.name == "watts")
    assert watts.heading == "power W"
    assert difference(watts, 2.0, 4.0) == "-50 %"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "-"), (0, "0 s"), (89, "89 s"), (3599, "60 min"), (5400, "1 h 30 min"), (32909, "9 h 8 min")],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said
