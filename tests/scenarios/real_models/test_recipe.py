"""The test of the recovery recipe: by it, the unpruned base loses nothing, and a pruned one wins most of it back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from objectives.accuracy.measure import measure_accuracy
from pruning import trace
from pruning.checkpoints.checkpoint import count_parameters, load_model, save_model
from pruning.recovery.finetune import Recovery
from pruning.recovery.repair import Origin, repair
from studies.digits.make_data import make_data

BASE = Path(__file__).parents[3] / "studies" / "digits" / "yolov8n-digits.pt"
SIZE = 128


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("digits") / "data")


def accuracy(model: nn.Module, data: Path, folder: Path) -> float:
    save_model(model, folder / "measured.pt")
    return measure_accuracy(load_model(folder / "measured.pt"), data, imgsz=SIZE, resamples=2).figures["map50_95"].value


@pytest.mark.slow  # test_pruning_evaluator_tasks has the same property of every task on tiny data
def test_the_unpruned_base_loses_nothing(data: Path, tmp_path: Path) -> None:
    before = accuracy(load_model(BASE), data, tmp_path)
    tuned = repair(load_model(BASE), data, Recovery(imgsz=SIZE), origin=None, base=BASE, work_dir=tmp_path / "work")
    assert before > 0.6
    assert accuracy(tuned.model, data, tmp_path) >= before - 0.003


@pytest.mark.slow
def test_half_an_epoch_wins_back_most_of_what_uniform_pruning_lost(data: Path, tmp_path: Path) -> None:
    base = load_model(BASE)
    plan = trace(base, torch.zeros(1, 3, SIZE, SIZE)).plan(0.2, round_to=8)
    small = plan.apply(base)
    full, size = accuracy(base, data, tmp_path), count_parameters(small)
    lost = accuracy(small, data, tmp_path)
    half, origin = Recovery(imgsz=SIZE, fraction=0.5), Origin(plan, base)
    tuned = repair(small, data, half, origin=origin, base=BASE, work_dir=tmp_path / "work").model
    assert count_parameters(tuned) == size < 0.75 * count_parameters(base)
    assert lost < full - 0.2
    assert accuracy(tuned, data, tmp_path) > lost + (full - lost) * 2 / 3
