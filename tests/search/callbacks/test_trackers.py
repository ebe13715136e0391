"""Trackers: what each logs of a search, read back by the tool that it is for."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from search.callbacks import trackers
from search.callbacks.jsonl import FILE, JsonLines
from search.callbacks.records import metrics, parameters
from search.callbacks.tensorboard_events import FOLDER
from search.config.sections import TRACKERS
from search.errors import ConfigError, Interrupted
from search.study import Study
from search.testing.known_front import FailingEvaluator
from tests.search.conftest import MakeStudy, run
from tests.search.hearing import after_trials

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason='needs pip install "paretoprune[mlflow]"')
needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None, reason='needs pip install "paretoprune[tensorboard]"'
)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_event_is_a_line_of_json(make_study: MakeStudy) -> None:
    failing = FailingEvaluator({2: "raise"})
    study = make_study(failing, track="jsonl", **{"search.trials": 4, "search.sampler": "random"}).search()
    lines = read_lines(study.record.path / FILE)
    assert lines[0]["event"] == "search_start" and lines[0]["base"]["latency_ms"]["value"] == 10.0
    assert lines[-1] | {"time": ""} == {"event": "search_end", "time": "", "state": "finished", "error": None}
    ends = [line for line in lines if line["event"] == "trial_end"]
    assert [line["trial"] for line in ends] == [0, 1, 2, 3]
    assert ends[2]["state"] == "failed" and "failed on purpose" in ends[2]["error"] and ends[2]["figures"] == {}
    figures = {name: cell["value"] for name, cell in ends[3]["figures"].items()}
    assert figures == {name: figure.value for name, figure in study.trials()[3].figures.items()}
    starts = [line for line in lines if line["event"] == "trial_start"]
    assert starts[1]["candidate"] == study.trials()[1].candidate.to_json()
    fronts = [line["front"] for line in lines if line["event"] == "front_changed"]
    assert set(fronts[-1]) == {str(trial.id) for trial in study.front()}


def test_a_torn_line_is_closed_before_the_next(make_study: MakeStudy) -> None:
    study = make_study()
    study.record.path.mkdir(parents=True)
    (study.record.path / FILE).write_text('{"event": "trial_st')
    JsonLines(study.record.path).on_search_end(study, None)
    torn, whole = (study.record.path / FILE).read_text().splitlines()
    assert torn == '{"event": "trial_st' and json.loads(whole)["event"] == "search_end"


def test_a_line_for_which_there_was_no_room_comes_with_the_next(make_study: MakeStudy) -> None:
    study = make_study()
    study.record.path.mkdir(parents=True)
    path, follower = study.record.path / FILE, JsonLines(study.record.path)
    path.symlink_to("/dev/full")
    follower.on_front_changed(study, ())
    follower.on_front_changed(study, ())
    path.unlink()
    path.write_text('{"event": "tri')
    follower.on_search_end(study, None)
    follower.on_front_changed(study, ())
    torn, *lines = path.read_text().splitlines()
    assert torn == '{"event": "tri'
    found = [json.loads(line)["event"] for line in lines]
    assert found == ["front_changed", "front_changed", "search_end", "front_changed"]


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_a_tracker_without_its_package_is_refused_before_work(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda module: None)
    for command in ("search", "check"):
        said = run(command, "study.yaml", f"track={name},jsonl")
        assert said.exit_code == 4 and f'pip install "paretoprune[{name}]"' in said.stderr
    assert not (workplace / "runs").exists()


def test_an_unknown_tracker_is_a_fault_of_the_study(workplace: Path) -> None:
    with pytest.raises(ConfigError, match=r"track: no tracker 'mlfow'; did you mean mlflow\?"):
        Study("study.yaml", track="mlfow")
    assert Study("study.yaml", track="jsonl, mlflow").spec.track == ("jsonl", "mlflow")
    assert set(TRACKERS) == trackers._MADE_BY.keys()


def test_who_tracks_may_change_on_resume(make_study: MakeStudy) -> None:
    make_study(**{"search.trials": 1}).search()
    study = make_study(track="jsonl", **{"search.trials": 2}).search()
    lines = read_lines(study.record.path / FILE)
    assert [line["trial"] for line in lines if line["event"] == "trial_end"] == [1]


@needs_tensorboard
def test_tensorboard_reads_scalars_and_hparams(make_study: MakeStudy) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    study = make_study(track=["tensorboard"], **{"search.trials": 3, "search.sampler": "random"}).search()
    whole = EventAccumulator(str(study.record.path / FOLDER)).Reload()
    latencies = {scalar.step: scalar.value for scalar in whole.Scalars("trial/latency_ms")}
    known = {trial.number: trial.figures["latency_ms"].value for trial in study.trials()}
    assert latencies == pytest.approx(known) and whole.Scalars("base/latency_ms")[0].value == 10.0
    assert whole.Scalars("front/size")[-1].value == len(study.front())
    assert whole.Scalars("front/hypervolume")[-1].value == pytest.approx(study.results().hypervolume[-1]["value"])
    one = EventAccumulator(str(study.record.path / FOLDER / "trial-0002")).Reload()
    content = HParamsPluginData.FromString(
        one.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info.hparams
    asked = parameters(study.trials()[2].candidate)
    assert {name: value.number_value or value.string_value for name, value in content.items()} == asked
    assert one.Scalars("trial/map50_95")[0].value == pytest.approx(study.trials()[2].figures["map50_95"].value)


@pytest.mark.slow
@needs_mlflow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, of SQLAlchemy and pydantic
def test_mlflow_has_a_run_for_the_study_and_one_in_it_for_each_trial(
    make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    options = {"track": ["mlflow"], "search.sampler": "random"}
    failing = FailingEvaluator({1: "raise"})
    first = make_study(failing, **options, **{"search.trials": 9})
    with pytest.raises(Interrupted):
        first.search([after_trials(lambda trial: trial.number == 2 and first.stop())])
    study = make_study(failing, **options, **{"search.trials": 4}).search()
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{study.record.path.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("paretoprune")
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["known", "trial 0", "trial 1", "trial 2", "trial 3"], "one parent for both sessions"
    parent = runs.pop("known")
    assert parent.info.status == "FINISHED" and parent.data.metrics["base.latency_ms"] == 10.0
    assert parent.data.params["model"] == study.spec.model
    assert parent.data.tags["front"] == ", ".join(str(trial.id) for trial in study.front())
    steps = [metric.step for metric in client.get_metric_history(parent.info.run_id, "front.size")]
    assert steps == [0, 1, 2, 3]
    for trial in study.trials():
        made = runs[f"trial {trial.number}"]
        assert made.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert made.data.params == {name: str(value) for name, value in parameters(trial.candidate).items()}
        assert made.data.metrics == metrics(trial)
        assert made.info.status == ("FAILED" if trial.number == 1 else "FINISHED")
    assert "failed on purpose" in runs["trial 1"].data.tags["error"]


@pytest.mark.slow
@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_a_server_that_has_gone_loses_no_search(make_study: MakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    study = make_study(track="mlflow", **{"search.trials": 2}).search()
    assert len(study.trials()) == 2 and "MlflowRuns raised" in (study.record.path / "search.log").read_text()
