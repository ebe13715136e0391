"""After the last trial: baselines, the front timed together, picks with more seeds; each step after cuts, too."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from objectives.objective import Estimate
from search.commands.baselines import split_rows
from search.config.spec import load_spec
from search.errors import ConfigError, Interrupted
from search.evaluate.baselines import baseline_rows
from search.results.baseline_results import read_rows, row_dir
from search.results.remeasured import confirmed, read_final, refined, write_final
from search.study import Study
from search.testing.known_front import KnownFinalMeasurements, KnownFrontEvaluator, known_space
from search.testing.simulated import Cut, SimulatedClock
from search.trial import Candidate, FinalLatency, Measurement, Trial, TrialState
from tests.search.conftest import MakeStudy, run
from tests.search.hearing import Hearing, noting

ALL = ["base", "lower_size", "int8", "uniform", "global", "random"]


def _rows(study: Study) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in study.snapshot()["baselines"]}


def test_the_rows_of_a_study(tmp_path: Path) -> None:
    rows = baseline_rows(ALL, known_space(), 640, 0)
    names = [row.name for row in rows]
    assert names[:3] == ["the base at 480 px", "the base at 320 px", "the base in INT8"]
    assert sum(row.kind == "uniform" for row in rows) == 7 and sum(row.kind == "random" for row in rows) == 5
    assert len({row.slug for row in rows}) == len(rows)
    assert rows == baseline_rows(ALL, known_space(), 640, 0)
    assert [row for row in rows if row.kind == "random"] != [
        row for row in baseline_rows(ALL, known_space(), 640, 1) if row.kind == "random"
    ]
    narrow = [row.name for row in baseline_rows(["uniform"], known_space(0.2, 0.5), 640, 0)]
    assert narrow == ["uniform 0.1", "uniform 0.3", "uniform 0.4", "uniform 0.5"]  # 0.1 and 0.2 are both the bound
    (tmp_path / "small.pt").write_bytes(b"weights")
    (sibling,) = baseline_rows([f"sibling:{tmp_path}/small.pt"], known_space(), 640, 0)
    (tmp_path / "small.pt").write_bytes(b"others")
    (other,) = baseline_rows([f"sibling:{tmp_path}/small.pt"], known_space(), 640, 0)
    assert sibling.name == other.name == "small.pt" and sibling.slug != other.slug


@pytest.mark.parametrize(
    ("text", "said"),
    [("[unifrom]", "did you mean uniform"), ("[sibling]", "{sibling: smaller.pt}"), ("7", "expected a list")],
)
def test_rows_that_do_not_exist_are_refused(workplace: Path, text: str, said: str) -> None:
    (workplace / "study.yaml").write_text(f"model: best.pt\ndata: data.yaml\nbaselines: {text}\n")
    with pytest.raises(ConfigError, match=said):
        load_spec(workplace / "study.yaml")


def test_a_sibling_is_found_beside_the_study(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workplace / "study.yaml").write_text(
        "model: best.pt\ndata: data.yaml\nbaselines: [uniform, {sibling: small.pt}]\n"
    )
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    spec = load_spec(workplace / "study.yaml")
    assert spec.baseline_rows == ("uniform", f"sibling:{workplace}/small.pt")
    assert spec.model_validate(spec.resolved()) == spec


def test_the_cheap_rows_come_by_default_and_are_no_trials(make_study: MakeStudy) -> None:
    study = make_study(final=KnownFinalMeasurements(), **{"search.trials": 12}).search()
    rows = _rows(study)
    assert list(rows) == ["the base at 320 px", "the base at 480 px", "the base in INT8"]
    assert rows["the base at 320 px"]["figures"]["latency_ms"]["value"] == pytest.approx(2.5)  # type: ignore[index]
    assert len(study.trials()) == 12
    shown = run("status", str(study.record.path)).stdout
    assert "the base at 480 px" in shown and "the base at 480 px" not in study.snapshot()["front"]
    assert not _rows(
        make_study(final=KnownFinalMeasurements(), **{"search.trials": 12, "name": "none", "baselines": []}).search()
    )


def test_a_row_that_was_a_trial_is_not_measured_again(make_study: MakeStudy) -> None:
    study = make_study(
        final=KnownFinalMeasurements(), **{"search.trials": 12, "baselines": ["uniform", "random"]}
    ).search()
    rows = {row.name: row for row in read_rows(study.record)}
    assert rows["uniform 0.3"].same_as == 2  # the opening without a guide is uniform
    assert rows["uniform 0.3"].note == "the network of trial 2, measured once"
    assert rows["random 1"].same_as is None
    assert not (row_dir(study.record, "uniform-0.3") / "train.log").exists()


def test_a_row_that_fails_is_a_note_and_is_tried_again_when_named(make_study: MakeStudy) -> None:
    study = make_study(final=KnownFinalMeasurements(failures=("int8",)), **{"search.trials": 8}).search()
    assert study.state() == "finished"
    row = _rows(study)["the base in INT8"]
    assert row["figures"] == {} and row["note"] == "not measured: RuntimeError: failed on purpose"
    well = make_study(final=KnownFinalMeasurements(), **{"search.trials": 8})
    assert well.search() and not _rows(well)["the base in INT8"]["figures"]  # a finished search tries nothing again
    well.measure_baselines(["int8", "global"])
    assert _rows(well)["the base in INT8"]["figures"] and "global ranking 0.3" in _rows(well)
    assert well.state() == "finished"


def test_rows_are_kept_across_a_stop(make_study: MakeStudy) -> None:
    study = make_study(final=KnownFinalMeasurements(), **{"search.trials": 4, "baselines": []}).search()
    again = make_study(final=KnownFinalMeasurements(), **{"search.trials": 4, "baselines": []})

    def stop_at_two(study: Study, text: str) -> None:
        if text.startswith("random 2"):
            again.record.request_stop()

    with pytest.raises(Interrupted, match="paretoprune baselines"):
        again.measure_baselines(["random"], [Hearing(on_note=stop_at_two)])
    assert [row.name for row in read_rows(study.record)] == ["random 1", "random 2"]
    stamps = {
        row.slug: (row_dir(study.record, row.slug) / "result.json").stat().st_mtime_ns
        for row in read_rows(study.record)
    }
    again.measure_baselines(["random"])
    assert len(read_rows(study.record)) == 5
    assert all((row_dir(study.record, slug) / "result.json").stat().st_mtime_ns == at for slug, at in stamps.items())


def test_the_command_names_rows(workplace: Path) -> None:
    (workplace / "small.pt").write_bytes(b"weights")
    assert split_rows(["uniform", "random"]) == (None, ("uniform", "random"))
    assert split_rows(["night", "sibling=small.pt"]) == ("night", (f"sibling:{workplace}/small.pt",))
    with pytest.raises(ConfigError, match="did you mean global"):
        split_rows(["night", "globl"])
    with pytest.raises(ConfigError, match="no such file"):
        split_rows(["night", "sibling=no.pt"])
    assert run("baselines", "nowhere").exit_code == 2


def test_the_front_is_timed_again_together(make_study: MakeStudy) -> None:
    study = make_study(final=KnownFinalMeasurements(shift=1.005), **{"search.trials": 20}).search()
    timed = read_final(study.record)
    assert {trial.number for trial in study.front()} <= timed.keys()
    for trial in study.trials():
        own = json.loads((study.record.trial_dir(trial.number) / "result.json").read_text())["measurement"]["figures"]
        assert trial.measurement is not None
        latency = trial.measurement.figures["latency_ms"]
        factor = 1.005 if trial.number in timed else 1.0
        assert latency.value == pytest.approx(factor * own["latency_ms"]["value"])
        assert (latency.high - latency.low < 0.003 * latency.value) == (trial.number in timed)
    picked = study.pick(latency_ms=6).trial
    assert picked is not None and picked.measurement is not None
    assert study.trial(picked.number).trial == picked
    row = study.snapshot()["trials"][picked.number]
    assert row["figures"]["latency_ms"]["value"] == picked.measurement.figures["latency_ms"].value
    stamp = (study.record.path / "latency" / "final.json").stat().st_mtime_ns
    make_study(final=KnownFinalMeasurements(), **{"search.trials": 20}).search()
    assert (study.record.path / "latency" / "final.json").stat().st_mtime_ns == stamp  # nothing new, nothing done


def test_new_trials_are_timed_with_the_old_front(make_study: MakeStudy) -> None:
    make_study(final=KnownFinalMeasurements(), **{"search.trials": 12}).search()
    study = make_study(final=KnownFinalMeasurements(), **{"search.trials": 25}).search()
    assert {trial.number for trial in study.front()} <= read_final(study.record).keys()


def test_a_disturbed_figure_replaces_only_a_wider_one(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 2}).search()
    wide, narrow = (Estimate(8.0, 8.0 - gap, 8.0 + gap) for gap in (1.0, 0.01))
    noisy, calm = {"flags": ["foreign_load"]}, {"flags": ["not_settled"]}
    timed = {0: FinalLatency(wide, noisy), 1: FinalLatency(wide, calm)}
    assert write_final(study.record, study.trials(), timed) == 1
    assert read_final(study.record) == {1: timed[1]}
    better = {0: FinalLatency(narrow, noisy)}
    assert write_final(study.record, study.trials(), better) == 1
    assert read_final(study.record) == {**better, 1: timed[1]}
    content = json.loads((study.record.path / "latency" / "final.json").read_text())
    figure = {"value": 8.0, "low": 7.0, "high": 9.0}
    assert content["trials"]["1"] == {"latency_ms": figure, "flags": ["not_settled"]}, "as version 0.1 has it"
    (study.record.path / "latency" / "final.json").write_text("{ torn")
    assert read_final(study.record) == {} and len(study.trials()) == 2


def test_further_figures_of_the_last_timing_replace_those_of_the_trial(make_study: MakeStudy) -> None:
    study = make_study(**{"search.trials": 1}).search()
    facts = {"flags": [], "further": {"e2e_ms": {"relative": True}}}
    final = FinalLatency(Estimate.exact(8.0), facts, {"e2e_ms": Estimate.exact(9.0)})
    (before,) = study.trials()
    measured = replace(before.measured, timing={"further": {"memory_mb": {}, "e2e_ms": {}}})
    assert write_final(study.record, [before], {0: final}) == 1 and read_final(study.record) == {0: final}
    (found,) = refined(study.record, [replace(before, measurement=measured)])
    assert (found.figures["latency_ms"].value, found.figures["e2e_ms"].value) == (8.0, 9.0)
    assert found.measured.timing["further"] == {"memory_mb": {}, "e2e_ms": {"relative": True}}


@pytest.mark.parametrize("step", ["together", "lower_size", "seeds"])
def test_a_cut_in_the_last_steps_goes_on_there(make_study: MakeStudy, workplace: Path, step: str) -> None:
    keys = {"search.trials": 10, "search.confirm": 3, "search.until": "07:00"}
    whole = make_study(_Seeded(), final=KnownFinalMeasurements(), **keys).search().snapshot()
    shutil.rmtree(workplace / "runs")
    with pytest.raises(Cut):
        make_study(_Seeded(cut_seeds=step == "seeds"), final=KnownFinalMeasurements(cut=step), **keys).search()
    resumed = make_study(_Seeded(), final=KnownFinalMeasurements(), **keys).search().snapshot()
    for key in ("trials", "front", "baselines", "picks", "verdict", "end", "state"):
        assert resumed[key] == whole[key]
    assert len(resumed["trials"]) == 10


def test_a_night_that_was_cut_in_its_last_steps_is_not_searched_on(make_study: MakeStudy) -> None:
    """Killed at seven, begun again at ten past: the steps are finished, the next night is not begun."""
    slow, keys = KnownFrontEvaluator(seconds=1800), {"search.trials": 5000, "search.until": "07:00"}
    with pytest.raises(Cut):
        make_study(slow, final=KnownFinalMeasurements(cut="lower_size"), **keys).search()
    late = SimulatedClock(begin=datetime(2025, 3, 2, 7, 10))
    study = make_study(slow, final=KnownFinalMeasurements(), clock=late, **keys).search()
    assert late.local() < datetime(2025, 3, 2, 7, 20)
    assert _rows(study)["the base in INT8"]["figures"] and study.snapshot()["end"]["reason"] == "until"


def test_more_seeds_can_be_asked_for_afterwards(make_study: MakeStudy) -> None:
    keys = {"search.trials": 8, "budgets": {"edge": {"latency_ms": 7}}}
    make_study(_Seeded(), **keys).search()
    study = make_study(_Seeded(), **keys, **{"search.confirm": 3}).search()
    picked = study.pick(budget="edge").trial
    assert len(study.trials()) == 8
    results = sorted((study.record.path / "confirm").glob("*/result.json"))
    stamps = [path.stat().st_mtime_ns for path in results]
    make_study(_Seeded(), **keys, **{"search.confirm": 3}).search()
    assert [path.stat().st_mtime_ns for path in results] == stamps  # what has a result is not done again
    assert picked is not None and picked.measurement is not None and picked.measurement.seeds == 3


@pytest.mark.parametrize("what", ["together", "lower_size"])
def test_a_step_that_fails_loses_nothing(make_study: MakeStudy, what: str) -> None:
    notes: list[str] = []
    study = make_study(final=KnownFinalMeasurements(failures=(what,)), **{"search.trials": 10})
    study.search([noting(notes)])
    assert study.state() == "finished" and len(study.front()) > 3
    assert any("failed on purpose" in note for note in notes)
    assert len(_rows(study)) == 3


def test_a_step_with_a_fault_of_its_own_loses_nothing(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr("search.orchestration.final_steps.write_final", broken)
    notes: list[str] = []
    study = make_study(final=KnownFinalMeasurements(), **{"search.trials": 6})
    study.search([noting(notes)])
    assert study.state() == "finished" and "OSError: no space left on device" in " ".join(notes)
    assert len(_rows(study)) == 3
    assert "Traceback" in (study.record.path / "search.log").read_text()


def test_picks_are_repeated_with_more_seeds(make_study: MakeStudy) -> None:
    keys = {"search.trials": 12, "search.confirm": 3, "budgets": {"edge": {"latency_ms": 7}}}
    study = make_study(_Seeded(), final=KnownFinalMeasurements(), **keys).search()
    picked = study.pick(budget="edge").trial
    assert picked is not None and picked.measurement is not None and picked.measurement.seeds == 3
    single = [
        json.loads(path.read_text())["measurement"]["figures"]["map50_95"]["value"] for path in _results(study, picked)
    ]
    assert len(set(single)) == 3
    figure = picked.measurement.figures["map50_95"]
    assert figure.value == pytest.approx(np.mean(single))
    assert figure.high - figure.value == pytest.approx(4.302653 * np.std(single, ddof=1) / 3**0.5, rel=1e-5)
    assert picked.measurement.figures["params_m"].is_exact
    assert "3 seeds" in run("status", str(study.record.path)).stdout
    assert "mean of 3 seeds" in run("show", f"{study.record.path}:{picked.number}").stdout
    assert not list((study.record.path / "confirm").glob("*/weights.pt"))


def _results(study: Study, trial: Trial) -> list[Path]:
    own = study.record.trial_dir(trial.number) / "result.json"
    return [own, *sorted((study.record.path / "confirm").glob(f"{trial.number:04d}-*/result.json"))]


def test_without_budgets_the_knee_is_repeated_until_it_stays(make_study: MakeStudy) -> None:
    study = make_study(_Seeded(), **{"search.trials": 12, "search.confirm": 2}).search()
    knee = study.knee().trial
    assert knee is not None and knee.measurement is not None and knee.measurement.seeds == 2


def test_seeds_that_agree_keep_the_interval_of_one() -> None:
    one = Measurement({"map50_95": Estimate(0.5, 0.49, 0.51), "latency_ms": Estimate.exact(2.0)}, per_class={"a": 0.5})
    same = confirmed(one, [one, one])
    assert same.figures == one.figures and same.seeds == 3
    other = Measurement(
        {"map50_95": Estimate(0.52, 0.5, 0.54), "latency_ms": Estimate.exact(9.0)}, per_class={"a": 0.7}
    )
    both = confirmed(one, [other])
    assert both.figures["map50_95"].value == pytest.approx(0.51) and both.per_class["a"] == pytest.approx(0.6)
    assert both.figures["latency_ms"] == one.figures["latency_ms"]
    assert confirmed(one, []) is one and one.seeds == 1
    assert Measurement.from_json(same.to_json()) == same


def test_an_old_trial_without_seeds_is_read(tmp_path: Path) -> None:
    data = Measurement({}).to_json()
    del data["seeds"]
    assert Measurement.from_json(data).seeds == 1
    assert Trial(0, TrialState.COMPLETE, Candidate({}), Measurement.from_json(data)).seconds_total == 0


class _Seeded(KnownFrontEvaluator):
    """Accuracy that depends on the seed, as that of a training does."""

    def __init__(self, cut_seeds: bool = False) -> None:
        super().__init__()
        object.__setattr__(self, "cut_seeds", cut_seeds)

    def evaluate(
        self, candidate: Candidate, number: int, seed: int, work_dir: Path, screening: object = None
    ) -> Measurement:
        if self.cut_seeds and work_dir.name.endswith("-2"):  # type: ignore[attr-defined]
            raise Cut("seeds")
        measured = super().evaluate(candidate, number, seed, work_dir)
        figure = measured.figures["map50_95"]
        change = 1e-4 * float(np.random.default_rng(seed).standard_normal())
        moved = Estimate(figure.value + change, figure.low + change, figure.high + change)
        return Measurement({**measured.figures, "map50_95": moved}, measured.widths, seconds=measured.seconds)
