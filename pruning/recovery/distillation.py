"""Initialisation of Ultralytics' feature distillation for short runs.

Its projectors, which map student features to teacher features, start at random and learn at the student's rate; in a
run of a few dozen steps they never fit, and the student's gradient is noise (see docs/recovery.md). A pruned student's
features are close to a linear image of the teacher's, so the projectors are fitted by least squares on a few batches
before the first step (the hints of FitNets, Romero et al., ICLR 2015, arXiv 1412.6550, in closed form).

A teacher must have the detection levels of its student: one for a student that has fewer than the base is made here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.checkpoints.checkpoint import load_model, save_model
from pruning.structure.level_removal import pyramid_of, remove_levels

SILU_FLOOR = 0.3
"""Just above -min(SiLU) = 0.278: shifted by this, teacher features pass the projector's ReLU unchanged."""

RIDGE = 1e-3


TEACHER = "teacher.pt"
"""The base without the levels that the student lacks, in the folder of the fine-tune."""


def teacher_of(student: nn.Module, base: Path, work_dir: Path) -> Path:
    """Return a checkpoint of the base with the student's levels; one is written to `work_dir` where some are gone."""
    own = pyramid_of(student)
    if own is None or len(own.strides) == len(getattr(student, "stride", own.strides)):  # the network's, of all levels
        return base
    teacher = load_model(base)
    pyramid = pyramid_of(teacher)
    lacking = () if pyramid is None else tuple(name for name in pyramid.names if name not in own.names)
    if not lacking:
        return base
    save_model(remove_levels(teacher, lacking), work_dir / TEACHER, dtype=torch.float32)
    return work_dir / TEACHER


@torch.no_grad()
def fit_projectors(model: Any, images: Iterable[Tensor]) -> None:
    """Set every projector to the least-squares map from student to teacher features.

    Args:
        model: Ultralytics' DistillationModel.
        images: batches (B, 3, H, W).
    """
    moments = [_Moments() for _ in model.projector]
    was_training = model.training
    model.eval()
    for batch in images:
        model.teacher_model(batch)
        model.student_model(batch)
        for level, moment in enumerate(moments):
            student = model.decouple_outputs(model._student_feats[level])
            teacher = model.decouple_outputs(model._teacher_feats[level])
            moment.add(_rows(student), _rows(teacher))
    model.train(was_training)
    for projector, moment in zip(model.projector, moments, strict=True):
        _set(projector, *moment.solve())


def _rows(features: Tensor) -> Tensor:
    """Reshape (B, C, H, W) to (B H W, C) in double precision."""
    return features.double().permute(0, 2, 3, 1).flatten(0, 2)


class _Moments:
    """Accumulated sums of a ridge regression with intercept; memory does not depend on the number of rows."""

    def __init__(self) -> None:
        self.xx: Any = 0
        self.xy: Any = 0
        self.rows = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        self.xx, self.xy, self.rows = self.xx + x.T @ x, self.xy + x.T @ y, self.rows + len(x)

    def solve(self) -> tuple[Tensor, Tensor]:
        """Return weight (teacher channels, student channels) and intercept (teacher channels,)."""
        scale = torch.eye(len(self.xx), dtype=self.xx.dtype, device=self.xx.device) * self.xx.diagonal().mean()
        solution = torch.linalg.solve(self.xx + RIDGE * scale, self.xy)
        return solution[:-1].T, solution[-1]


def _set(projector: Any, weight: Tensor, intercept: Tensor) -> None:
    """Write the linear map into convolution, ReLU, convolution: shifted above zero before the ReLU, back after it."""
    first, _, last = projector
    first.weight.copy_(weight[:, :, None, None])
    first.bias.copy_(intercept + SILU_FLOOR)
    nn.init.dirac_(last.weight)
    last.bias.fill_(-SILU_FLOOR)
