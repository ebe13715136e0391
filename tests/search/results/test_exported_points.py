"""An export of a trial is a point under an id of its own, `3-int8`, wherever points are named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from objectives.objective import Estimate
from search.export.report import ArtefactCheck, ExportReport
from search.present.dashboard.live import LiveRun
from search.present.page_data import page_data
from search.present.trial_files import details
from search.references import resolve
from search.results.exported_points import exported_trials, point_path, record_points
from search.results.schema import Snapshot
from search.results.snapshot_reader import current
from search.run_folder.annotations import Mark, write_mark
from search.run_folder.atomic import write_json
from search.run_folder.weights import origin
from search.study import Study
from search.trial import PointId
from tests.search.conftest import SearchOnce, run

POINT = PointId(3, "int8")


@pytest.fixture
def study(search_once: SearchOnce) -> Study:
    """A finished search whose trial 3 was exported: ten times as fast, and the pick of its budget."""
    made = search_once(**{"search.trials": 6, "budgets": {"edge": {"latency_ms": 1.5}}})
    own = made.trial(POINT.trial).chosen.measured
    figures = {**own.figures, "latency_ms": own.figures["latency_ms"].scaled(0.1)}
    content = {"format": 1, "trial": POINT.trial, "precision": POINT.precision}
    exported = replace(own, figures=figures, seconds={})
    write_json(point_path(made.record.path, POINT), {**content, "measurement": exported.to_json()})
    made.refresh()
    return made


def written(study: Study) -> Snapshot:
    content: Snapshot = json.loads(study.record.snapshot_path.read_text(encoding="utf-8"))
    return content


def test_the_point_shares_its_trials_number_and_weights_but_not_the_id(study: Study) -> None:
    (point,) = exported_trials(study.record, study.trials())
    assert (point.id, point.number, point.exported, origin(point)) == (POINT, 3, True, 3)
    assert point.candidate == replace(study.trial(3).chosen.candidate, precision="int8")
    assert study.trial(3).chosen.id == PointId(3) < POINT < PointId(4)


def test_a_file_that_names_no_point_is_none(study: Study) -> None:
    place = point_path(study.record.path, POINT)
    content = json.loads(place.read_text())
    for change in ({"precision": "int4"}, {"trial": 99}, {"trial": "x"}, {"measurement": None}):
        write_json(place, {**content, **change})
        assert exported_trials(study.record, study.trials()) == ()


def test_it_has_its_id_in_the_snapshot_and_its_tables(study: Study) -> None:
    content = written(study)
    (row,) = [row for row in content["trials"] if row["exported"]]
    assert (row["id"], row["number"], row["source"], row["on_front"]) == ("3-int8", 3, "export", True)
    assert "3-int8" in content["front"] and content["picks"]["edge"]["trial"] == "3-int8"
    assert content["picks"]["edge"]["sentence"].startswith("trial 3-int8 ")
    for name in ("results.csv", "pareto.csv"):
        rows = list(csv.DictReader(io.StringIO((study.record.path / name).read_text())))
        assert [(row["number"], row["dtype"]) for row in rows if row["id"] == "3-int8"] == [("3", "int8")]
        header = (study.record.path / name).read_text().splitlines()[0].split(",")
        assert len(set(header)) == len(header)
    assert all(row["trial"] in range(6) for row in content["hypervolume"]), "no export is part of the search"


def test_a_reference_and_the_commands_know_it_by_its_id(study: Study) -> None:
    path = study.record.path
    picked = resolve(f"{path}:3-int8")
    assert (picked.name, picked.ref, picked.folder.name) == ("trial 3-int8", f"{path}:3-int8", "trial-0003")
    assert picked.chosen == study.trial(3, "int8").chosen and resolve(f"{path}:edge").chosen == picked.chosen
    assert "3-int8" in run("ls", str(path)).output and "trial 3-int8" in run("show", f"{path}:3-int8").output
    found = json.loads(run("pick", str(path), "-f", "json").stdout)
    assert (found["id"], found["trial"]) == ("3-int8", 3)
    missing = run("show", f"{path}:3-fp16")
    assert missing.exit_code == 2 and "has no trial 3-fp16" in missing.output


def test_the_last_pick_is_found_again_by_its_id(study: Study) -> None:
    (study.record.trial_dir(3) / "weights.pt").write_bytes(b"weights")
    picked = study.pick(budget="edge")
    row = json.loads((picked.write() / "pick.json").read_text())["trial"]
    assert row["id"] == "3-int8" and resolve(f"{study.record.path}:pick").chosen.id == POINT
    old = {key: found for key, found in row.items() if key not in ("id", "exported")} | {"label": "3 int8"}
    write_json(picked.folder / "pick.json", {"trial": old})
    assert resolve(f"{study.record.path}:pick").chosen.id == POINT


def test_the_page_has_it_by_its_id(study: Study) -> None:
    write_mark(study.record.path, POINT, Mark("for the door"))
    view = LiveRun(study.record.path).view()
    row = json.loads(view.rows["3-int8"])
    assert (row["id"], row["number"], row["exported"]) == ("3-int8", 3, True)
    assert list(view.rows) == [*map(str, range(6)), "3-int8"] and view.position().upto == 6
    assert list(view.after(view.position())) == ["3-int8"], "exports do not count up: a reader is told of them anew"
    data = page_data(written(study), study.record.path)
    assert data["front"] == written(study)["front"] and data["marks"].keys() == {"3-int8"}
    assert any("trial 3-int8" in line for line in data["summary"])


def test_its_files_are_the_figures_and_what_was_delivered_of_the_trial(study: Study) -> None:
    (study.record.trial_dir(3) / "weights.pt").write_bytes(b"weights")
    study.trial(3).write()
    found = details(study.record.path, POINT, str)
    names = [file["name"] for file in found["files"]]
    assert names == ["exports/0003-int8.json", "picks/trial-0003/model.pt", "picks/trial-0003/pick.json"]
    assert found["samples"] == []


def test_a_device_that_has_not_timed_it_leaves_it_out(study: Study) -> None:
    from search.commands.timing.command import compared
    from search.results.target_device import Target

    times = {trial.number: trial.figures["latency_ms"] for trial in study.trials() if trial.same_as is None}
    target = Target("pi5", {}, 20.0, times, {})
    write_json(study.record.path / "latency" / "targets" / "pi5.json", target.to_json())
    rows = {row["trial"]: row for row in compared(study, target)["rows"]}
    ours = {trial.number for trial in study.front() if not trial.exported}
    assert rows.keys() == times.keys() and {n for n, row in rows.items() if row["study_on_front"]} == ours


def numbered(content: Mapping[str, Any]) -> dict[str, Any]:
    """The snapshot as format 1 had it, where everything was keyed by numbers."""
    numbers = {
        row["id"]: index if row["exported"] else row["number"] for index, row in enumerate(content["trials"], 1000)
    }

    def part(data: Mapping[str, Any]) -> dict[str, Any]:
        picks = {name: {**pick, "trial": numbers.get(pick["trial"])} for name, pick in data["picks"].items()}
        lists = {key: [numbers[one] for one in data[key]] for key in ("front", "feasible") if key in data}
        return {**data, **lists, "picks": picks}

    rows = []
    for row in content["trials"]:
        rest = {key: found for key, found in row.items() if key not in ("id", "exported")}
        old = {"number": numbers[row["id"]], "label": row["id"].replace("-", " ")}
        rows.append({**rest, **old, "exported_from": row["number"] if row["exported"] else None})
    views = {name: part(view) for name, view in content["on_targets"].items()}
    return {**part(content), "format": 1, "trials": rows, "on_targets": views}


def test_a_snapshot_of_format_1_is_read_as_if_it_had_ids(study: Study) -> None:
    times = {trial.number: trial.figures["latency_ms"].to_dict() for trial in study.trials() if trial.same_as is None}
    device = {str(number): {**ms, "flags": []} for number, ms in times.items()}
    content = {"format": 1, "name": "pi5", "machine": {}, "base_ms": 20.0, "trials": device}
    write_json(study.record.path / "latency" / "targets" / "pi5.json", content)
    study.refresh()
    snapshot = json.loads(study.record.snapshot_path.read_text())
    assert snapshot["on_targets"]["pi5"]["front"], "a device's view is translated too"
    assert current(numbered(snapshot)) == {**snapshot, "trials": [_with_old_keys(row) for row in snapshot["trials"]]}
    study.record.snapshot_path.write_text(json.dumps(numbered(snapshot)))
    assert LiveRun(study.record.path).view().rows.keys() == {row["id"] for row in snapshot["trials"]}
    study.refresh()
    assert written(study)["front"] == snapshot["front"], "the next refresh writes it anew"


def _with_old_keys(row: Mapping[str, Any]) -> dict[str, Any]:
    """What an old row says besides stays in it; nobody reads it."""
    return {**row, "label": row["id"].replace("-", " "), "exported_from": row["number"] if row["exported"] else None}


def test_a_snapshot_of_the_first_version_had_no_exports(study: Study) -> None:
    rows = [{"number": 0, "on_front": True}, {"number": 1}]
    found = current({"format": 1, "trials": rows, "front": [0], "picks": {"edge": {"trial": None, "sentence": ""}}})
    assert [(row["id"], row["exported"]) for row in found["trials"]] == [("0", False), ("1", False)]
    assert found["front"] == ["0"] and found["picks"]["edge"]["trial"] is None
    assert current({"format": 99}) == {"format": 99}, "whatever else it is, the next check refuses it"


def test_an_export_has_its_own_memory_and_no_other_cost_of_the_trial(study: Study) -> None:
    trial, base = study.trial(3).chosen, study.record.read_base()
    costs = {name: Estimate.exact(1.0) for name in ("macs_g", "memory_mb", "e2e_ms")}
    trial = replace(trial, measurement=replace(trial.measured, figures={**trial.figures, **costs}))
    timed = {"runtime": study.spec.latency.runtime, "ratio": {"value": 0.5, "low": 0.5, "high": 0.5}}
    check = ArtefactCheck("onnx", "fp16", "a.onnx", drop=0.0, latency=timed, memory={"peak_mb": 77.0})
    report = ExportReport("m.pt", "", 0, "", 640, "", {}, {}, None, {}, (check,))
    assert record_points(study.record, study.spec, base, trial, report) == ("3-fp16",)
    (point,) = [one for one in exported_trials(study.record, study.trials()) if one.candidate.precision == "fp16"]
    assert point.figures["memory_mb"].value == 77.0 and "e2e_ms" not in point.figures


@pytest.mark.parametrize(
    ("own", "precision", "points"), [("fp32", "fp32", ("3-fp16",)), ("int8", "fp32", ()), ("fp32", "int8", ())]
)
def test_only_what_is_held_against_float32_is_a_point(
    study: Study, own: str, precision: str, points: tuple[str, ...]
) -> None:
    """An export is timed beside the base in float32, and its loss is that to the checkpoint."""
    spec, trial, base = study.spec, study.trial(3).chosen, study.record.read_base()
    spec = spec.model_copy(update={"space": spec.space.model_copy(update={"precision": (own,)})})
    own_figures = replace(trial.measured, figures={**trial.figures, "macs_g": Estimate.exact(1.0)})
    trial = replace(trial, candidate=replace(trial.candidate, precision=precision), measurement=own_figures)
    timed = {"runtime": spec.latency.runtime, "ratio": {"value": 0.5, "low": 0.5, "high": 0.5}}
    check = ArtefactCheck("onnx", "fp16", "a.onnx", drop=0.0, latency=timed)
    report = ExportReport("m.pt", "", 0, "", 640, "", {}, {}, None, {}, (check,))
    assert record_points(study.record, spec, base, trial, report) == points
