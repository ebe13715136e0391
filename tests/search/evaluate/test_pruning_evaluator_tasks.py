"""A trial of every Ultralytics task: pruned, timed, repaired, saved and judged by its own figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from objectives.objective import MAIN_FIGURES, TASK_FIGURES
from pruning.checkpoints.checkpoint import load_model
from pruning.recovery.repair import FINE_TUNE, STATISTICS
from search.study import Study
from search.trial import TrialState
from tests.pruning.as_if_trained import as_if_trained, harm_of_new_statistics
from tests.pruning.zoo import TASKS
from tests.tiny_data import CLASSES

QUICK = ("seg", "cls")
NETWORKS = (
    *(f"yolov8n-{suffix}.yaml" for suffix in QUICK),
    *(pytest.param(f"yolov8n-{suffix}.yaml", marks=pytest.mark.slow) for suffix in TASKS if suffix not in QUICK),
    pytest.param("yolo26n.yaml", marks=pytest.mark.slow),
)
"""Trials of detectors are in test_pruning_evaluator; test_repair has the repair of every task and of two branches."""


@pytest.mark.parametrize("name", NETWORKS)
def test_a_trial_of_every_task_that_removes_hardly_anything_is_the_base(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, data = as_if_trained(name, tmp_path)
    base = load_model(file)
    outputs, harm = harm_of_new_statistics(base, data)
    study = Study(
        model=str(file),
        data=str(data),
        device="cpu",
        name="trial",
        constraints={"per_class_drop": 0.5},
        baselines=[],
        search={"trials": 1, "sampler": "random"},
        space={"ratio": [0.0, 0.02], "round_to": 1},
        # random weights have much to learn, and nothing needs it
        recover={"epochs": 1, "spend": "equal", "batch": 8, "fraction": 1.0, "lr0": 1e-5},
        latency={"seconds": 0.2},
        keep={"weights": "all"},
    ).search()
    task = str(base.task)
    assert study.spec.imgsz == 64 and study.spec.objectives[0] == MAIN_FIGURES[task]
    (trial,) = study.trials()
    assert trial.state == TrialState.COMPLETE, trial.error
    assert trial.measurement is not None
    small = {name for name in TASK_FIGURES[task] if name.endswith("small")}
    assert set(TASK_FIGURES[task]) - small <= trial.measurement.figures.keys()
    assert "per_class_drop" in trial.measurement.figures and set(trial.measurement.per_class) == set(CLASSES)
    assert not study.record.batches_dir.exists()
    assert [step.step for step in trial.measurement.repair][:2] == [STATISTICS, FINE_TUNE]
    repaired = load_model(study.record.trial_dir(0) / "weights.pt")
    assert float(outputs.losses(repaired).mean()) < harm, "new statistics would move it so far"
