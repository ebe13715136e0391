"""MLflow: one parent run a study, one nested run a trial.

Where: MLFLOW_TRACKING_URI, otherwise the SQLite file mlflow.db beside the run (`runs/prune/mlflow.db`). The experiment
is MLFLOW_EXPERIMENT_NAME, otherwise paretoprune. The client names the run that it writes to; MLflow's own "active run"
is the user's, and is left alone.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.image_size import written
from search.callbacks.callback import Callback
from search.callbacks.records import metrics, parameters, tags
from search.errors import Interrupted
from search.trial import Trial

if TYPE_CHECKING:
    from search.study import Study

_PARENT = "mlflow.parentRunId"
"""MLflow's own tag of a nested run."""
_NAME, _RUN = "paretoprune.name", "paretoprune.run"
"""Tags of the parent run: name and folder of the study's run, by which a resumed search finds it."""
_TRIAL = "paretoprune.trial"
_MOST_PARAMETERS = 100
"""Of one request, by MLflow's API."""
_LONGEST = 500
"""Characters of a value that every version of MLflow takes."""
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""A server that has gone must not hold up the search for the minutes that MLflow waits by default."""


class MlflowRuns(Callback):
    """Logs to MLflow: parameters, metrics and tags of each trial, and of the study in the parent run.

    Metrics of the parent are the base's, `base.map50_95`, and over the trials `front.size` and `front.hypervolume`.
    """

    def __init__(self, run: Path) -> None:
        self._store = run.parent / "mlflow.db"
        self._client: Any = None
        self._experiment = self._parent = ""
        self._runs: dict[int, str] = {}

    def on_search_start(self, study: Study) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self._store.resolve()}")
        self._experiment = self._experiment_named(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "paretoprune")
        self._parent = self._parent_of(study)
        base = study.base()
        figures = {} if base is None else {f"base.{name}": figure.value for name, figure in base.figures.items()}
        self._log(self._parent, figures)

    def on_trial_start(self, study: Study, trial: Trial) -> None:
        left = self._runs.pop(trial.number, None)
        if left is not None:  # the trial runs once more, after an accident
            self._client.set_terminated(left, "KILLED")
        said = {_PARENT: self._parent, _TRIAL: str(trial.number), "source": trial.source}
        made = self._client.create_run(self._experiment, tags=said, run_name=f"trial {trial.number}")
        self._runs[trial.number] = made.info.run_id
        self._log(made.info.run_id, parameters=parameters(trial.candidate))

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        run = self._runs.pop(trial.number)
        self._log(run, metrics(trial), tags=tags(trial))
        self._client.set_terminated(run, "FAILED" if trial.failure is not None else "FINISHED")
        volumes = study.results().hypervolume
        found = {"front.hypervolume": volumes[-1]["value"]} if volumes else {}
        self._log(self._parent, {**found, "front.size": float(len(study.front()))}, step=trial.number)

    def on_search_end(self, study: Study, error: BaseException | None) -> None:
        stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        for run in self._runs.values():  # of trials that were dropped and run again on resume
            self._client.set_terminated(run, "KILLED")
        self._runs.clear()
        front = ", ".join(str(trial.id) for trial in study.front())
        self._log(self._parent, tags={"front": front, "state": study.state()})
        self._client.set_terminated(self._parent, "FINISHED" if error is None else "KILLED" if stopped else "FAILED")

    def _experiment_named(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    def _parent_of(self, study: Study) -> str:
        """Return the run of this study: of its earlier session if it is resumed, otherwise a new one."""
        folder, name = str(study.record.path), study.spec.run_name
        known = self._found(f"tags.`{_NAME}` = '{name}'") if study.trials() else []
        for run in (str(one.info.run_id) for one in known if one.data.tags.get(_RUN) == folder):
            for left in self._found(f"tags.`{_PARENT}` = '{run}' and attributes.status = 'RUNNING'"):
                self._client.set_terminated(left.info.run_id, "KILLED")  # by a power cut, for example
            self._client.update_run(run, "RUNNING")
            return run
        made = self._client.create_run(self._experiment, tags={_NAME: name, _RUN: folder}, run_name=name)
        spec = study.spec
        said = {
            "model": " ".join(spec.models),
            "data": spec.data,
            "imgsz": written(spec.imgsz),
            "objectives": " ".join(spec.objectives),
        }
        self._log(made.info.run_id, parameters={**said, "sampler": spec.search.sampler, "seed": spec.search.seed})
        return str(made.info.run_id)

    def _found(self, condition: str) -> list[Any]:
        return list(self._client.search_runs([self._experiment], condition, order_by=["attributes.start_time DESC"]))

    def _log(
        self,
        run: str,
        metrics: dict[str, float] | None = None,
        parameters: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        step: int = 0,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        known = [Metric(_key(name), value, now, step) for name, value in (metrics or {}).items()]
        asked = [Param(_key(name), str(value)[:_LONGEST]) for name, value in (parameters or {}).items()]
        said = [RunTag(name, value[:_LONGEST]) for name, value in (tags or {}).items()]
        self._client.log_batch(run, known, asked[:_MOST_PARAMETERS], said)
        for begin in range(_MOST_PARAMETERS, len(asked), _MOST_PARAMETERS):
            self._client.log_batch(run, params=asked[begin : begin + _MOST_PARAMETERS])


def _key(name: str) -> str:
    """Return a name without what MLflow does not take in one."""
    return re.sub(r"[^/\w.\- :]", "_", name)
