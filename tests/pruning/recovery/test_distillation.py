"""Fitted projectors: exact for a linear relation, and far better than random ones on a pruned student."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pruning.checkpoints.checkpoint import load_model
from pruning.recovery.distillation import fit_projectors, teacher_of
from tests.pruning import zoo
from tests.pruning.recovery.test_finetune import base_for, pruned
from ultralytics_versions.parts import DistillationModel, can_distill

pytestmark = pytest.mark.skipif(not can_distill, reason="this Ultralytics has no distillation")


def test_fitted_projectors_bring_the_student_near_the_teacher(tmp_path: Path) -> None:
    base = base_for("detect", tmp_path)
    student = pruned(base, 0.3)
    student.args = SimpleNamespace(imgsz=64, dis=6.0)
    model = DistillationModel(student_model=student, teacher_model=zoo.seeded(load_model(base)))
    images = [zoo.picture(batch=4, seed=seed) for seed in range(3)]

    def error() -> float:
        model.eval()
        with torch.no_grad():
            model.teacher_model(images[0])
            model.student_model(images[0])
            total = sum(
                float(
                    (p(model._student_feats[i]) - model._teacher_feats[i]).square().mean()
                    / model._teacher_feats[i].var()
                )
                for i, p in enumerate(model.projector)
            )
        return total / len(model.projector)

    before = error()
    fit_projectors(model, images)
    assert error() < min(1.0, 0.7 * before)


def test_a_student_without_a_level_has_a_teacher_without_it(tmp_path: Path) -> None:
    base = base_for("detect", tmp_path)
    whole, student = pruned(base), pruned(base, removed=("P4",))
    assert teacher_of(whole, base, tmp_path / "work") == base
    student.args = SimpleNamespace(imgsz=64, dis=6.0)
    teacher = load_model(teacher_of(student, base, tmp_path / "work"))
    model = DistillationModel(student_model=student, teacher_model=teacher)
    assert len(model.projector) == 2 and model.teacher_feats_idx == model.feats_idx == [15, 21, 22]
    fit_projectors(model, [zoo.picture(batch=4)])


def test_a_student_that_is_the_teacher_is_matched(tmp_path: Path) -> None:
    base = base_for("detect", tmp_path)
    same = zoo.seeded(load_model(base))
    same.args = SimpleNamespace(imgsz=64, dis=6.0)
    model = DistillationModel(student_model=same, teacher_model=zoo.seeded(load_model(base)))
    fit_projectors(model, [zoo.picture(batch=16, seed=seed) for seed in range(4)])
    model.eval()
    with torch.no_grad():
        picture = zoo.picture(batch=16)
        model.teacher_model(picture)
        model.student_model(picture)
        level = len(model.projector) - 1
        found, wanted = model.projector[0](model._student_feats[0]), model._teacher_feats[0]
    assert level >= 1
    assert float((found - wanted).square().mean() / wanted.var()) < 0.02
