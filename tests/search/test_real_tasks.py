"""A trial of every Ultralytics task: pruned, timed, fine-tuned, saved and judged by its own figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectives.objective import MAIN_FIGURES, TASK_FIGURES
from pruning.checkpoint import save_model
from search.study import Study
from search.trial import TrialState
from tests.objectives.doubles import network
from tests.tiny_data import CLASSES, make_tiny_data


@pytest.mark.parametrize("task", ["segment", "pose", "obb", "classify"])
def test_a_search_of_every_task(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = network(task)
    model.names, model.args, model.task = dict(enumerate(CLASSES)), {"imgsz": 64}, task
    save_model(model, tmp_path / "base.pt")
    data = make_tiny_data(tmp_path / "data", task)
    study = Study(
        model="base.pt",
        data=str(data),
        device="cpu",
        name=task,
        constraints={"per_class_drop": 0.5},
        search={"trials": 1, "sampler": "random"},
        recover={"epochs": 1, "batch": 6, "fraction": 1.0},
        latency={"seconds": 0.2},
    ).search()
    assert study.spec.imgsz == 64 and study.spec.objectives[0] == MAIN_FIGURES[task]
    (trial,) = study.trials()
    assert trial.state == TrialState.COMPLETE, trial.error
    assert trial.measurement is not None
    small = {name for name in TASK_FIGURES[task] if name.endswith("small")}
    assert set(TASK_FIGURES[task]) - small <= trial.measurement.figures.keys()
    assert "per_class_drop" in trial.measurement.figures and set(trial.measurement.per_class) == set(CLASSES)
    assert not study.record.batches_dir.exists()
