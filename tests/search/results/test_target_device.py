"""Figures of another device: foreign input, and a study re-ranked by them."""

from __future__ import annotations

import copy
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.choice import Bound
from objectives.errors import ObjectiveError
from objectives.latency.quality_flags import FLAGS
from objectives.objective import Estimate
from search.commands.timing.command import _front_change
from search.deliver.selection import Selection
from search.errors import ConfigError, RunCorrupt
from search.present.page_data import page_data
from search.results.snapshot import current_snapshot
from search.results.target_device import Figures, Target, import_figures, kit_path, read_target, target_names
from search.run_folder.atomic import write_json
from search.study import Study
from tests.search.conftest import MakeStudy, run

KIT = "ab" * 32
RUN = "runs/prune/known"


@pytest.fixture
def study(make_study: MakeStudy, workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A finished study whose kit holds the base and every trial, one file each; searched once, copied for each test."""
    settings = {"search.trials": 10, "budgets": {"edge": {"latency_ms": 6}}, "constraints": {"latency_ms": "<=9.9"}}
    made = make_study(**settings)
    kept = tmp_path_factory.getbasetemp() / "retargeted"
    if kept.is_dir():
        shutil.copytree(kept, workplace / "runs")
        return made
    _with_kit(made.search())
    shutil.copytree(workplace / "runs", kept)
    return made


def _with_kit(made: Study) -> None:
    rows = [{"file": "models/base.onnx", "sha256": "0" * 64, "base": True, "trials": []}]
    rows += [
        {"file": f"models/{t.number}.onnx", "sha256": f"{t.number:064x}", "base": False, "trials": [t.number]}
        for t in made.trials()
        if t.same_as is None
    ]
    write_json(kit_path(made.record, KIT), {"format": 1, "kit": KIT, "models": rows})


def figures(study: Study, latency_ms: dict[int, float] | None = None) -> dict[str, Any]:
    """What a device would send: by default its slowest is the study's fastest."""
    manifest = json.loads(kit_path(study.record, KIT).read_text())
    own = {t.number: t.measurement.figures["latency_ms"].value for t in study.trials() if t.measurement}
    times = latency_ms or {number: 40 - value for number, value in own.items()}
    rows = [
        _row(row, 40.0 if row["base"] else times[row["trials"][0]])
        for row in manifest["models"]
        if row["base"] or row["trials"][0] in times
    ]
    machine = {"processor": "Cortex\x1b[31m-A76", "threads": 4}
    return {"format": 1, "kit": KIT, "name": "pi5", "machine": machine, "models": rows}


def _row(row: dict[str, Any], ms: float) -> dict[str, Any]:
    latency = {"value": ms, "low": 0.99 * ms, "high": 1.01 * ms}
    ratio = {name: value / 40 for name, value in latency.items()}
    found = {"ratio": ratio, "latency_ms": latency, "p50_ms": ms, "p90_ms": 1.1 * ms, "rounds": 12, "flags": ["drift"]}
    return {"file": row["file"], "sha256": row["sha256"], **found}


def write(content: Any, name: str = "figures.json") -> Path:
    Path(name).write_text(content if isinstance(content, str) else json.dumps(content))
    return Path(name)


def test_the_front_is_re_ranked(study: Study) -> None:
    before = [trial.number for trial in study.front()]
    result = run("bench", RUN, "--import", str(write(figures(study))), "-f", "json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["target"], facts["base_ms"]) == ("pi5", 40.0)
    assert facts["machine"]["processor"] == "Cortex[31m-A76", "no control characters of strangers reach a terminal"
    rows = facts["rows"]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert sorted(row["study_rank"] for row in rows) == list(range(1, len(rows) + 1))
    here, there_ms = ([row[key] for row in rows] for key in ("study_latency_ms", "latency_ms"))
    assert here == sorted(here, reverse=True) and there_ms == sorted(there_ms), "the order is turned round"
    assert {row["trial"] for row in rows if row["study_on_front"]} == set(before)
    there = study.results().on("pi5")
    assert {row["trial"] for row in rows if row["on_front"]} == {trial.number for trial in there.front}
    shown = run("bench", RUN, "--import", "figures.json", "--name", "again").stdout
    assert "ranks changed" in shown and "known --target again --max" in " ".join(shown.split())
    assert target_names(study.record) == ["again", "pi5"]


def test_costs_that_were_measured_here_are_no_figures_there(study: Study) -> None:
    """Objectives become latency, constraints do not count, budgets are left out; a limit says that nobody knows."""
    import_figures(study.record, write(figures(study)), "pi5")
    plain, facts = study.results(), {"further": {"e2e_ms": {}}}
    with_it = [
        replace(
            trial,
            measurement=replace(
                trial.measured, figures={**trial.figures, "e2e_ms": Estimate.exact(30.0)}, timing=facts
            ),
        )
        for trial in plain.trials
    ]
    assert plain.base is not None
    base = replace(plain.base, figures={**plain.base.figures, "e2e_ms": Estimate.exact(50.0)}, timing=facts)
    budgets = {"camera": {"e2e_ms": "60%"}, "both": {"latency_ms": 9, "e2e_ms": 60}, "edge": {"latency_ms": 6}}
    named = {"objectives": ("map50_95", "e2e_ms"), "constraints": {"e2e_ms": "<=1"}, "budgets": budgets}
    here = replace(plain, trials=tuple(with_it), base=base, spec=plain.spec.model_copy(update=named))
    there, before = here.on("pi5"), plain.on("pi5")
    assert there.spec.objectives == ("map50_95", "latency_ms") and not there.spec.constraints
    assert list(there.limits) == list(there.picks) == ["edge"] and here.limits.keys() == budgets.keys()
    with pytest.raises(ConfigError, match="no budget 'camera' that pi5 has figures for"):
        Selection(there).pick(budget="camera")
    assert all("e2e_ms" not in trial.figures for trial in there.trials) and there.base is not None
    assert "e2e_ms" not in there.base.figures and there.base.figures["latency_ms"].value == 40.0
    assert [trial.figures["latency_ms"] for trial in there.trials] == [t.figures["latency_ms"] for t in before.trials]
    with pytest.raises(ObjectiveError, match="no figure for e2e_ms"):
        there.pick([Bound.budget("e2e_ms", 60.0)])


@pytest.mark.parametrize(
    ("timed", "here", "there", "said"),
    [(5.0, True, False, "leaves"), (5.0, False, True, "joins"), (5.0, True, True, "front"), (None, True, False, "")],
)
def test_who_joins_and_leaves_the_front_is_said(timed: float | None, here: bool, there: bool, said: str) -> None:
    assert _front_change({"latency_ms": timed, "study_on_front": here, "on_front": there}) == said


def test_figures_are_kept_by_name(study: Study) -> None:
    for name in ("again", "pi5"):
        import_figures(study.record, write(figures(study)), name)
    assert target_names(study.record) == ["again", "pi5"]


def test_choices_are_made_by_the_targets_times(study: Study) -> None:
    write(figures(study))
    run("bench", RUN, "--import", "figures.json")
    there = study.on("pi5")
    base = there.results.base
    assert base is not None and base.figures["latency_ms"].value == 40
    own = {t.number: t.measurement.figures for t in study.trials() if t.measurement}
    for trial in there.results.trials:
        assert trial.measurement is not None
        mine = own[trial.number]
        assert trial.measurement.figures["latency_ms"].value == pytest.approx(40 - mine["latency_ms"].value)
        assert trial.measurement.figures["map50_95"] == mine["map50_95"]
    picked = there.pick(latency_ms=33)
    assert picked.trial is not None
    allowed = [n for n in (t.number for t in there.results.trials) if 40 - own[n]["latency_ms"].value <= 33]
    assert own[picked.trial.number]["map50_95"].value == max(own[n]["map50_95"].value for n in allowed)
    result = run("pick", RUN, "--target", "pi5", "--max", "latency_ms=33", "-f", "json")
    assert json.loads(result.stdout)["trial"] == picked.trial.number
    assert json.loads(result.stdout)["figures"]["latency_ms"]["value"] <= 33
    assert all(one.sentence.startswith("On pi5: trial") for one in (picked, there.knee(), there.one_se()))
    assert study.on("pi5").results.spec.constraints == {} and study.spec.constraints == {"latency_ms": "<=9.9"}
    nothing = run("pick", RUN, "--target", "pi5", "--budget", "edge")
    assert nothing.exit_code == 3, "nothing is as fast there as the budget wants"
    assert there.pick(latency_ms=39, budget=None).folder.name.startswith("trial-")


def test_the_report_can_be_drawn_by_the_targets_times(study: Study) -> None:
    write(figures(study))
    run("bench", RUN, "--import", "figures.json")
    result = run("report", RUN, "--target", "pi5")
    assert result.stdout.strip().endswith("known/report-pi5.html") and Path(result.stdout.strip()).is_file()
    content = current_snapshot(study.results().on("pi5"))
    assert content["target"]["name"] == "pi5" and content["base"]["figures"]["latency_ms"]["value"] == 40
    plain = study.snapshot()
    assert plain["target"] is None and plain["targets"] == ["pi5"]
    assert plain["base"]["figures"]["latency_ms"]["value"] < 40


def test_the_snapshot_carries_the_study_by_the_targets_times(study: Study) -> None:
    """What the page switches to is what `--target` says, also for a page that is open: the import refreshes it."""
    run("bench", RUN, "--import", str(write(figures(study))))
    content, there = study.record.read_snapshot(), current_snapshot(study.results().on("pi5"))
    assert content is not None and content["state"] == "finished"
    view = content["on_targets"]["pi5"]
    assert [view[key] for key in ("front", "picks", "verdict", "hypervolume")] == [
        there[key] for key in ("front", "picks", "verdict", "hypervolume")
    ]
    rows = {row["id"]: row for row in there["trials"]}
    assert {n: ms[0] for n, ms in view["latency_ms"].items()} == {
        n: row["figures"]["latency_ms"]["value"] for n, row in rows.items()
    }
    assert view["feasible"] == [row["id"] for row in there["trials"] if row["feasible"]]
    assert view["base_ms"] == 40 and set(map(tuple, view["flags"].values())) == {(f"latency: {FLAGS['drift']}",)}
    assert there["on_targets"] == {} and study.on("pi5").results.here == study.results()


def test_figures_that_cannot_be_read_do_not_end_a_search(study: Study) -> None:
    run("bench", RUN, "--import", str(write(figures(study))))
    (study.record.path / "latency" / "targets" / "pi5.json").write_text("{")
    assert study.snapshot()["on_targets"] == {}


def test_the_page_says_whose_times_it_goes_by(study: Study) -> None:
    run("bench", RUN, "--import", str(write(figures(study))))
    data = page_data(study.snapshot())
    view = data["on_targets"]["pi5"]
    assert view["verdict"].startswith("By the times of pi5: ") and view["verdict"] in view["summary"]
    assert view["verdict"] not in data["summary"]


def test_a_trial_that_was_not_timed_there_has_no_rank(study: Study) -> None:
    front = study.front()
    missing = front[0].number
    times = {t.number: 10.0 + t.number for t in study.trials() if t.number != missing and t.same_as is None}
    result = run("bench", RUN, "--import", str(write(figures(study, times))), "-f", "json")
    (row,) = [row for row in json.loads(result.stdout)["rows"] if row["trial"] == missing]
    assert (row["latency_ms"], row["rank"], row["on_front"]) == (None, None, False)
    assert missing not in {trial.number for trial in study.results().on("pi5").trials}
    assert "not timed" in run("bench", RUN, "--import", "figures.json").stdout


def _changed(path: tuple[str | int, ...], value: Any) -> Any:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


FAULTS: dict[str, tuple[Any, str]] = {
    "NaN": (_changed(("models", 1, "latency_ms", "value"), math.nan), "models.1.latency_ms.value"),
    "infinity": (_changed(("models", 1, "latency_ms", "high"), math.inf), "finite"),
    "below zero": (_changed(("models", 1, "latency_ms", "value"), -1.0), "greater than 0"),
    "text": (_changed(("models", 1, "latency_ms", "value"), "5"), "valid number"),
    "outside": (_changed(("models", 1, "latency_ms", "low"), 99.0), "does not hold the value"),
    "truth": (_changed(("models", 1, "latency_ms", "value"), True), "models.1"),
    "another model": (_changed(("models", 1, "sha256"), "f" * 64), "its sha256 differs"),
    "no hash": (_changed(("models", 1, "sha256"), "../../etc"), "sha256"),
    "unknown file": (_changed(("models", 1, "file"), "models/99.onnx"), "not a model of this kit"),
    "twice": (lambda c: c["models"].append(c["models"][1]), "two rows"),
    "no base": (lambda c: c["models"].pop(0), "lacks the base"),
    "no models": (_changed(("models",), []), "models"),
    "another kit": (_changed(("kit",), "cd" * 32), "did not make"),
    "path as kit": (_changed(("kit",), "../" * 21 + "x"), "kit"),
    "format": (_changed(("format",), 2), "format 2"),
    "name": (_changed(("name",), "../../x"), "cannot name a device"),
    "missing key": (lambda c: c["models"][1].pop("rounds"), "rounds"),
    "deep": (_changed(("machine",), {"a": {"b": 1}}), "machine"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_foreign_figures_are_checked(study: Study, name: str) -> None:
    change, said = FAULTS[name]
    content = figures(study)
    change(content)
    result = run("bench", RUN, "--import", str(write(content)))
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert target_names(study.record) == []


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000, "nul\x00"])
def test_what_is_no_figures_file_is_named(study: Study, text: str) -> None:
    result = run("bench", RUN, "--import", str(write(text)))
    assert result.exit_code == 2 and "figures.json" in result.stderr
    assert "no such file" in run("bench", RUN, "--import", "nowhere.json").stderr
    Path("large.json").write_bytes(b" " * (5 << 20))
    assert "larger than 4 MiB" in run("bench", RUN, "--import", "large.json").stderr


def test_a_device_that_is_not_known(study: Study) -> None:
    assert "--bundle kit.zip" in run("pick", RUN, "--target", "pi5", "--knee").stderr
    import_figures(study.record, write(figures(study)))
    with pytest.raises(ConfigError, match="did you mean: pi5"):
        study.on("pi6")
    path = study.record.path / "latency" / "targets" / "pi5.json"
    path.write_text("{}")
    with pytest.raises(RunCorrupt, match="import its figures again"):
        read_target(study.record, "pi5")


@given(st.dictionaries(st.integers(0, 999), st.floats(0.01, 1e4), min_size=1))
def test_a_target_survives_the_disk(times: dict[int, float]) -> None:
    from objectives.objective import Estimate

    estimates = {n: Estimate(ms, ms * 0.9, ms * 1.1) for n, ms in times.items()}
    target = Target("a", {"threads": 1}, 5.0, estimates, {n: ("drift",) for n in times})
    assert Target.from_json(json.loads(json.dumps(target.to_json()))) == target


def test_the_runners_own_words_may_grow(study: Study) -> None:
    """A later runner may say more; what is known is still read."""
    content = copy.deepcopy(figures(study))
    content["models"][0]["energy_j"] = 1.0
    assert Figures.model_validate(content).kit == KIT
