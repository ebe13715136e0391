"""A repair never harms: where nothing was pruned the base comes back, and a step that does harm is not kept."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import pruning
from pruning.checkpoints.checkpoint import count_parameters, load_model
from pruning.errors import RecoveryError
from pruning.recovery.bn_calibration import BaseMoments
from pruning.recovery.finetune import Recovery, Spend, data_trainer, trainer_of
from pruning.recovery.judge import Floats
from pruning.recovery.repair import (
    FINE_TUNE,
    RECONSTRUCTION,
    STATISTICS,
    STATISTICS_AGAIN,
    Origin,
    correct_statistics,
    needed_epochs,
    repair,
)
from studies.digits.make_data import make_data
from tests import shelf
from tests.pruning import zoo
from tests.pruning.as_if_trained import as_if_trained, harm_of_new_statistics

DIGITS = Path(__file__).parents[3] / "studies" / "digits" / "yolov8n-digits.pt"
NETWORKS = (
    *("yolov8n.yaml", "yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-obb.yaml", "yolov8n-cls.yaml", "yolo26n.yaml"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("yolov10n.yaml", "yolo11n.yaml")),
)
"""Every task, and a head with two branches; of detectors two more are slow, whose statistics test_calibration has."""


def prepared(name: str, folder: Path) -> tuple[nn.Module, Path, Path]:
    """A base, its file, its data."""
    file, data = as_if_trained(name, folder)
    return load_model(file), file, data


@pytest.mark.parametrize("name", NETWORKS)
def test_what_lost_nothing_comes_back_as_the_base(name: str, tmp_path: Path) -> None:
    """The empty plan, and one that takes hardly anything, through the whole repair of a trial."""
    base, file, data = prepared(name, tmp_path)
    graph = shelf.trace(base, zoo.picture())
    outputs, harm = harm_of_new_statistics(base, data)
    asked = Recovery(imgsz=64, batch=8, train={"lr0": 1e-5})  # random weights have much to learn
    for ratio, most in ((0.0, harm / 10), (0.02, harm)):
        origin = Origin(graph.plan(ratio), base)
        small = origin.plan.apply(base)
        sliced = float(outputs.losses(small).mean())
        found = repair(small, data, asked, origin=origin, base=file, work_dir=tmp_path / "work")
        steps = {verdict.step: verdict for verdict in found.steps}
        assert set(steps) <= {STATISTICS, RECONSTRUCTION, FINE_TUNE, STATISTICS_AGAIN} and FINE_TUNE in steps
        if ratio == 0.0:
            assert RECONSTRUCTION not in steps
            assert (steps[STATISTICS].change, steps[STATISTICS].error) == (0.0, 0.0)
        assert float(outputs.losses(found.model).mean()) < sliced + most, "new statistics would move it by `harm`"


def test_a_fine_tune_that_does_harm_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, file, data = prepared("yolov8n.yaml", tmp_path)
    base: Any = load_model(file)
    before = copy.deepcopy(base.state_dict())

    def sees_everything_everywhere(model: Any, *_: Any, **__: Any) -> nn.Module:
        for branch in model.model[-1].cv3:
            nn.init.constant_(branch[-1].bias, 20.0)
        return model  # type: ignore[no-any-return]

    monkeypatch.setattr("pruning.recovery.repair.recover", sees_everything_everywhere)
    found = repair(base, data, Recovery(imgsz=64), origin=None, base=file, work_dir=tmp_path / "work")
    (verdict,) = found.steps
    assert verdict.step == FINE_TUNE and not verdict.kept and verdict.change > 0
    assert all(torch.equal(before[key], value) for key, value in found.model.state_dict().items())


def test_averages_that_a_fine_tune_has_left_behind_are_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, file, data = prepared("yolov8n.yaml", tmp_path)
    origin = Origin(pruning.trace(base, zoo.picture()).plan(0.0), base)

    def loses_its_statistics(model: Any, *_: Any, **__: Any) -> nn.Module:
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.mul_(1e-3)
        return model  # type: ignore[no-any-return]

    monkeypatch.setattr("pruning.recovery.repair.recover", loses_its_statistics)
    small = origin.plan.apply(base)
    found = repair(small, data, Recovery(imgsz=64), origin=origin, base=file, work_dir=tmp_path / "work")
    assert [(verdict.step, verdict.kept) for verdict in found.steps] == [
        (STATISTICS, True), (FINE_TUNE, True), (STATISTICS_AGAIN, True)
    ]  # fmt: skip
    own = dict(base.named_buffers())
    assert all(torch.equal(own[name], buffer) for name, buffer in found.model.named_buffers())


class Contrary:
    """A judge that dislikes the second network it sees."""

    def __init__(self) -> None:
        self.seen: list[nn.Module] = []

    def losses(self, model: nn.Module) -> Floats:
        self.seen.append(model)
        return np.array([float(len(self.seen))] * 2)


def test_statistics_that_do_harm_are_not_kept() -> None:
    base = zoo.build("yolov8n.yaml")
    origin = Origin(zoo.traced("yolov8n.yaml").plan(0.5), base)
    small, judge = origin.plan.apply(base), Contrary()
    before = copy.deepcopy(small.state_dict())
    found = correct_statistics(small, origin.plan, BaseMoments(base, [zoo.picture(4, 1)]), judge)
    assert found.model is small and not found.steps[0].kept
    assert all(torch.equal(before[key], value) for key, value in small.state_dict().items())
    assert any(not torch.equal(before[key], value) for key, value in judge.seen[1].state_dict().items())


def test_without_epochs_only_statistics_are_corrected(tmp_path: Path) -> None:
    base, file, data = prepared("yolo11n.yaml", tmp_path)
    origin = Origin(shelf.trace(base, zoo.picture()).plan(0.3), base)
    asked = Recovery(epochs=0, imgsz=64)
    found = repair(origin.plan.apply(base), data, asked, origin=origin, base=file, work_dir=tmp_path / "work")
    assert [verdict.step for verdict in found.steps] == [STATISTICS]
    assert all(
        torch.equal(a, b) for a, b in zip(found.model.parameters(), origin.plan.apply(base).parameters(), strict=True)
    )


def test_a_last_fine_tune_keeps_its_best_epoch_and_cools_down_when_nothing_improves(tmp_path: Path) -> None:
    _, file, data = prepared("yolov8n.yaml", tmp_path)
    heard: list[nn.Module] = []
    figures = [0.1, 0.5, 0.4, 0.3, 0.2]

    def fitness(model: nn.Module) -> float:
        for seen, figure in zip(heard, figures, strict=False):
            if seen is model:
                return figure
        heard.append(model)
        return figures[len(heard) - 1] if len(heard) <= len(figures) else 0.0

    asked = Recovery(epochs=20, imgsz=64, batch=8, distill=False, train={"patience": 3})
    found = repair(load_model(file), data, asked, origin=None, base=file, work_dir=tmp_path / "work", fitness=fitness)
    assert len(heard) == 1 + 5 + 2, "the start, five epochs with three that are not better, two of cool-down"
    assert found.model is heard[1] and found.steps[0].kept


@pytest.mark.parametrize(
    ("damage", "epochs"), [(0.0, 0), (0.002, 0), (0.02, 2), (0.1, 2), (0.2, 6), (1.0, 8), (50.0, 8), (math.inf, 8)]
)
def test_who_lost_nothing_needs_no_epoch_and_who_lost_much_needs_several(damage: float, epochs: float) -> None:
    assert needed_epochs(2, damage) == epochs


@pytest.mark.parametrize(("spend", "epochs"), [("need", 0), ("equal", 1)])
def test_epochs_by_need_are_for_trials(spend: Spend, epochs: float, tmp_path: Path) -> None:
    """The empty plan has no damage."""
    base, file, data = prepared("yolov8n.yaml", tmp_path)
    origin = Origin(shelf.trace(base, zoo.picture()).plan(0.0), base)
    asked = Recovery(imgsz=64, batch=8, spend=spend, distill=False)
    found = repair(origin.plan.apply(base), data, asked, origin=origin, base=file, work_dir=tmp_path / "work")
    assert found.epochs == epochs and found.damage == 0.0
    assert any(step.step == FINE_TUNE for step in found.steps) == bool(epochs)


def test_a_fine_tune_that_goes_on_has_the_rate_of_the_network_as_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it has lost nothing by now: alone it would not move at all."""
    base, file, data = prepared("yolov8n.yaml", tmp_path)
    origin = Origin(shelf.trace(base, zoo.picture()).plan(0.0), base)
    spoilt = origin.plan.apply(base)
    head: Any = spoilt.model[-1]  # type: ignore[index]
    for branch in head.cv3:
        nn.init.constant_(branch[-1].bias, 5.0)
    damages: list[Any] = []

    def recorded(model: nn.Module, *words: Any, **named: Any) -> nn.Module:
        damages.append(named["damage"])
        return model

    monkeypatch.setattr("pruning.recovery.repair.recover", recorded)
    asked = Recovery(imgsz=64, batch=8, distill=False)
    where = {"origin": origin, "base": file, "work_dir": tmp_path / "work"}
    for sliced in (None, spoilt):
        repair(origin.plan.apply(base), data, asked, sliced=sliced, **where)
    assert damages[0] == 0.0 < damages[1]


def test_layers_are_solved_for_and_the_rate_is_that_of_what_the_plan_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs follow from what is left to repair, and weights that were trained are not solved for."""
    base, data = load_model(DIGITS), make_data(tmp_path / "data", train=40, val=8)
    origin = Origin(shelf.trace(base, torch.zeros(1, 3, 128, 128)).plan(0.3, round_to=8), base)
    damages: list[Any] = []

    def recorded(model: nn.Module, *words: Any, **named: Any) -> nn.Module:
        damages.append(named["damage"])
        return model

    monkeypatch.setattr("pruning.recovery.repair.recover", recorded)
    where: dict[str, Any] = {"origin": origin, "base": DIGITS, "work_dir": tmp_path / "work"}
    found = repair(origin.plan.apply(base), data, Recovery(imgsz=128, spend="need"), **where)
    solved = {verdict.step: verdict for verdict in found.steps}[RECONSTRUCTION]
    assert solved.kept and solved.change is not None and solved.change < 0
    assert found.damage is not None and 2 * found.damage < damages[0]
    assert found.epochs == needed_epochs(1, found.damage)
    again = repair(found.model, data, Recovery(imgsz=128, epochs=0), **where)
    assert [verdict.step for verdict in again.steps] == [STATISTICS]


def test_a_last_fine_tune_has_the_epochs_that_were_asked_for(tmp_path: Path) -> None:
    _, file, data = prepared("yolov8n.yaml", tmp_path)
    asked = Recovery(imgsz=64, batch=8, spend="need", distill=False)
    where = {"origin": None, "base": file, "work_dir": tmp_path / "work"}
    assert repair(load_model(file), data, asked, fitness=lambda network: 0.5, **where).epochs == 1


@pytest.mark.slow
def test_rtdetr_is_repaired_by_its_own_trainer(tmp_path: Path) -> None:
    base, file, data = prepared("rtdetr-l.yaml", tmp_path)
    origin = Origin(shelf.trace(base, zoo.picture()).plan(0.3, round_to=8), base)
    asked = Recovery(epochs=1, imgsz=64, batch=8)
    small = origin.plan.apply(base)
    count = count_parameters(small)
    found = repair(small, data, asked, origin=origin, base=file, work_dir=tmp_path / "work")
    assert count_parameters(found.model) == count
    assert [verdict.step for verdict in found.steps][:2] == [STATISTICS, FINE_TUNE]
    assert all(verdict.change is not None for verdict in found.steps), "its own loss judged every step"
    names = [kind.__name__ for kind in type(data_trainer(base, data, asked, tmp_path / "trainer")).__mro__]
    assert "RTDETRTrainer" in names


def test_a_model_that_is_trained_with_texts_is_refused_by_name() -> None:
    from ultralytics.nn.tasks import WorldModel

    with pytest.raises(RecoveryError, match=r"WorldModel .* can be pruned"):
        trainer_of(WorldModel.__new__(WorldModel))
