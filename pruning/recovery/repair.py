"""The repair of a pruned network: statistics corrected, weights fine-tuned, and no step kept that does harm.

    sliced -> statistics -> fine-tune -> statistics again

Each step makes a copy, and the copy replaces what it was made from unless the judge finds it worse (judge.py). Which
steps help depends on how the base was trained, which nobody can see in its weights; so it is measured each time.

The last step is for networks that had much to learn in few steps: their running averages lag behind their weights, and
are those of augmented batches. What the new weights have changed is corrected as what pruning has changed was, by
difference to the base.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from pruning.checkpoints.checkpoint import load_model
from pruning.plan import Plan
from pruning.recovery.bn_calibration import BaseMoments, calibration_batches, match_statistics
from pruning.recovery.finetune import Recovery, data_trainer, norms_of, paced, recover
from pruning.recovery.judge import Floats, Judge, TrainingLoss, Verdict, compare
from pruning.recovery.weight_masks import WeightMasks

STATISTICS = "statistics"
FINE_TUNE = "fine-tune"
STATISTICS_AGAIN = "statistics again"

CALIBRATION_IMAGES = 128
"""The correction compares two networks on the same images, so it needs fewer than a measurement of statistics does."""
CALIBRATION_PIXELS = CALIBRATION_IMAGES * 640 * 640
"""They stay in memory: fewer are taken at larger sizes."""


@dataclass(frozen=True)
class Origin:
    """Where a pruned network comes from: `plan.apply(base)`."""

    plan: Plan
    base: nn.Module


@dataclass(frozen=True)
class Repaired:
    """The network, in evaluation mode on the CPU, what became of each step, and its losses where it was judged."""

    model: nn.Module
    steps: tuple[Verdict, ...]
    losses: Floats | None = None


def correct_statistics(
    model: nn.Module, plan: Plan, moments: BaseMoments, judge: Judge, beat: Callable[[], None] = lambda: None
) -> Repaired:
    """`model`, which is `plan.apply` of a base or was trained from it, with the statistics that suit its weights, or as
    it was where they do not help. Not in place."""
    if not norms_of(model):
        return Repaired(model, ())
    matched = copy.deepcopy(model)
    match_statistics(matched, plan, moments, beat)
    before, after = judge.losses(model), judge.losses(matched)
    verdict = compare(STATISTICS, before, after)
    return Repaired(matched, (verdict,), after) if verdict.kept else Repaired(model, (verdict,), before)


def calibration_images(imgsz: int) -> int:
    """How many images statistics are corrected on."""
    return max(16, min(CALIBRATION_IMAGES, CALIBRATION_PIXELS // (imgsz * imgsz)))


def repair(
    model: nn.Module,
    data: str | Path,
    recovery: Recovery,
    *,
    origin: Origin | None,
    base: Path | None = None,
    masks: WeightMasks | None = None,
    work_dir: Path,
    on_progress: Callable[[float], None] | None = None,
    beat: Callable[[], None] = lambda: None,
    fitness: Callable[[nn.Module], float] | None = None,
) -> Repaired:
    """Repair a pruned Ultralytics network. `model` may be trained in place; take the result.

    Args:
        data: what Ultralytics is given; only its training images are used.
        recovery: the fine-tune; none with 0 epochs. Slimming costs accuracy on purpose, so with it the last epoch is
            the result, whatever the verdict.
        origin: what the network was made from, whether or not it was trained since; None where that is not known, so
            that statistics stay.
        base: the unpruned checkpoint: teacher, and what damage is measured against.
        masks: weights that stay zero.
        work_dir: receives Ultralytics' own files.
        on_progress: takes the share of the fine-tune that is done, 0 to 1.
        beat: called before every batch of what is not training, as a moment to wait for others.
        fitness: judges a fine-tune in the place of the loss on held-out images, after every epoch (more is better):
            nothing is held out then, and the best epoch is the result. For a last fine-tune, on the validation split.

    Raises GrewBackError, DivergedError, RecoveryError.
    """
    judge = TrainingLoss.of(data_trainer(model, data, recovery, work_dir), beat)
    repaired, again = Repaired(model, ()), None
    if origin is not None:
        task, count = str(getattr(model, "task", "detect")), calibration_images(recovery.imgsz)
        images = calibration_batches(data, recovery.imgsz, count, task=task, seed=recovery.seed)
        moments = BaseMoments(origin.base, paced(images, beat), judge.trainer.device)
        repaired = correct_statistics(model, origin.plan, moments, judge, beat)
        again = partial(match_statistics, plan=origin.plan, base=moments, beat=beat)
    if not recovery.epochs:
        return repaired
    judged = None if recovery.slimming else fitness
    start = repaired.model
    before = repaired.losses if repaired.losses is not None else judge.losses(start)
    damage = None if base is None else damage_of(before, judge.losses(load_model(base)))
    tuned = recover(
        copy.deepcopy(start),
        data,
        recovery,
        base=base,
        damage=damage,
        held_out=judge.files if fitness is None else frozenset(),
        masks=masks,
        work_dir=work_dir,
        on_progress=on_progress,
        fitness=judged,
    )
    losses_of = judge.losses if judged is None else partial(_shortfall, judged)
    before = before if judged is None else losses_of(start)
    tuned, after, statistics = _with_better_statistics(tuned, again, losses_of)
    verdict = compare(FINE_TUNE, before, after)
    if recovery.slimming:
        verdict = replace(verdict, kept=True)
    if not verdict.kept:
        return Repaired(start, (*repaired.steps, verdict))
    return Repaired(tuned, (*repaired.steps, verdict, *statistics))


def _with_better_statistics(
    tuned: nn.Module, again: Callable[[nn.Module], None] | None, losses_of: Callable[[nn.Module], Floats]
) -> tuple[nn.Module, Floats, tuple[Verdict, ...]]:
    """A fine-tuned network with its own statistics or with corrected ones, its losses, and the verdict on these."""
    losses = losses_of(tuned)
    if again is None or not norms_of(tuned):
        return tuned, losses, ()
    corrected = copy.deepcopy(tuned)
    again(corrected)
    corrected_losses = losses_of(corrected)
    verdict = compare(STATISTICS_AGAIN, losses, corrected_losses)
    return (corrected, corrected_losses, (verdict,)) if verdict.kept else (tuned, losses, (verdict,))


def _shortfall(fitness: Callable[[nn.Module], float], model: nn.Module) -> Floats:
    """(1,) a fitness as a loss."""
    return np.array([-fitness(model)])


def damage_of(pruned: Floats, unpruned: Floats) -> float:
    """Relative rise of the loss over the base's on the same batches: 0 is no damage, infinity where it is no number."""
    if not np.isfinite(pruned).all():
        return math.inf
    return max(0.0, float(pruned.sum()) / max(float(unpruned.sum()), 1e-9) - 1.0)
