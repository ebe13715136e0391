"""Held-out images, the loss on them, and the verdict."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ultralytics.cfg import get_cfg
from ultralytics.utils.loss import E2ELoss

from pruning.recovery.finetune import Recovery, data_trainer
from pruning.recovery.judge import (
    BATCHES,
    TrainingLoss,
    TrainingSubset,
    compare,
    evaluation_dataset,
    files_of,
    held_out,
)
from pruning.recovery.judge import trained_criterion as criterion_of
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data


@given(total=st.integers(1, 5000), most=st.integers(1, 128))
def test_held_out_images_are_few_and_always_the_same(total: int, most: int) -> None:
    chosen = held_out(total, most)
    assert chosen == sorted(set(chosen)) and chosen == held_out(total, most)
    assert len(chosen) <= min(most, total // 4) and all(0 <= index < total for index in chosen)
    assert bool(chosen) == (total >= 4)


@pytest.mark.parametrize(
    ("after", "kept"),
    [([1.0, 2.0], True), ([0.9, 1.9], True), ([1.2, 2.3], False), ([1.3, 1.9], True), ([float("nan"), 2.0], False)],
)
def test_a_step_is_kept_unless_the_loss_rose_by_more_than_its_error(after: list[float], kept: bool) -> None:
    verdict = compare("step", np.array([1.0, 2.0]), np.array(after))
    assert verdict.kept is kept and verdict.step == "step"


def test_a_cure_of_what_is_no_number_is_kept() -> None:
    assert compare("step", np.array([np.inf, 1.0]), np.array([1.0, 1.0])).kept


def test_the_error_is_that_of_the_paired_differences() -> None:
    verdict = compare("step", np.array([1.0, 5.0, 9.0]), np.array([0.9, 4.8, 8.7]))
    assert verdict.change == pytest.approx(-0.2) and verdict.error == pytest.approx(0.1 / np.sqrt(3))


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "classify"])
def test_losses_are_the_same_each_time_and_those_of_the_network(task: str, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", task, images=20)
    suffix = {name: tail for tail, name in zoo.TASKS.items()}
    model = zoo.for_tiny_data(f"yolov8n{'-' + suffix[task] if task in suffix else ''}.yaml")
    trainer = data_trainer(model, data, Recovery(imgsz=64, batch=4), tmp_path / "work")
    judge = TrainingLoss.of(trainer)
    assert len(judge.files) == 5 and 1 < len(judge.batches) <= BATCHES
    first, again = judge.losses(model), judge.losses(model)
    assert (first == again).all() and np.isfinite(first).all() and model.training is False
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    assert (judge.losses(model) != first).all()


def test_the_fine_tune_does_not_see_what_is_held_out(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", images=20)
    trainer = data_trainer(zoo.for_tiny_data("yolov8n.yaml"), data, Recovery(imgsz=64), tmp_path)
    judge, dataset = TrainingLoss.of(trainer), evaluation_dataset(trainer)
    rest = TrainingSubset(dataset, judge.files)
    seen = {rest[index]["im_file"] for index in range(len(rest))}
    assert len(rest) == 15 and not seen & judge.files and seen | judge.files == set(files_of(dataset))
    assert rest.collate_fn is dataset.collate_fn
    assert len(pickle.loads(pickle.dumps(rest))) == 15, "loaders hand it to their workers"


def test_an_end_to_end_head_is_judged_as_at_the_end_of_its_training() -> None:
    model = zoo.for_tiny_data("yolo26n.yaml")
    model.args = get_cfg(overrides={"epochs": 1})
    criterion = criterion_of(model)
    assert isinstance(criterion, E2ELoss) and criterion.o2m == pytest.approx(0.1)
    criterion.update()
    assert (criterion.o2m, criterion.o2o) == (pytest.approx(0.1), pytest.approx(0.9))
