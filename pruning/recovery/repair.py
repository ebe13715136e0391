"""Repair of a pruned network: correct statistics, fine-tune the weights, and keep only steps that do not hurt.

    sliced -> statistics -> reconstruction -> fine-tune -> statistics again

Each step works on a copy, which replaces the network unless its loss is worse (judge.py). Which steps help depends on
how the base was trained, which its weights do not show; so it is measured each time.

Reconstruction solves for the weights of each layer (reconstruction.py), where something was lost that it could bring
back. It starts from sliced weights only: what was trained is not drawn back to the base's outputs.

The last step is for networks that changed much in few steps: their running averages lag behind their weights and are
those of augmented batches. They are corrected as after pruning, by difference to the base.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pruning.checkpoints.checkpoint import load_model
from pruning.plan import Plan
from pruning.recovery.bn_calibration import BaseMoments, calibration_batches, match_statistics
from pruning.recovery.finetune import Recovery, data_trainer, norms_of, paced, recover
from pruning.recovery.images import Size, sides
from pruning.recovery.judge import Floats, Judge, TrainingLoss, Verdict, compare
from pruning.recovery.level_use import IDLE, share_lost
from pruning.recovery.reconstruction import BaseOutputs, reconstruct
from pruning.recovery.weight_masks import WeightMasks

STATISTICS = "statistics"
RECONSTRUCTION = "reconstruction"
FINE_TUNE = "fine-tune"
STATISTICS_AGAIN = "statistics again"

CALIBRATION_IMAGES = 128
"""The correction compares two networks on the same images, so it needs fewer than a measurement of statistics does."""
CALIBRATION_PIXELS = CALIBRATION_IMAGES * 640 * 640
"""They stay in memory: fewer are taken at larger sizes."""
SOLVED_PIXELS = 64 * 320 * 320
"""Of the images on which layers are solved for, which run as one batch."""
LEAST_SOLVED = 32
"""At large sizes, unless a batch has fewer: a user's own says what the memory can hold."""


@dataclass(frozen=True)
class Origin:
    """The base and plan of a pruned network: `plan.apply(base)`."""

    plan: Plan
    base: nn.Module


@dataclass(frozen=True)
class Repaired:
    """The network, in evaluation mode on the CPU, the verdict on each step, and its losses if measured.

    `epochs` are those of its fine-tune: with `Recovery.spend` "need" they follow from its `damage`, before it: the
    rise of its loss over the base's, or the share of what the base assigned to detection levels that it lacks. The rate
    follows from the damage before layers were solved for, where that is more: the plan's.
    """

    model: nn.Module
    steps: tuple[Verdict, ...]
    losses: Floats | None = None
    epochs: float = 0
    damage: float | None = None


def correct_statistics(
    model: nn.Module, plan: Plan, moments: BaseMoments, judge: Judge, beat: Callable[[], None] = lambda: None
) -> Repaired:
    """Return `model`, which is `plan.apply` of a base or was trained from it, with corrected statistics if they help.

    Not in place.
    """
    if not norms_of(model):
        return Repaired(model, ())
    matched = copy.deepcopy(model)
    match_statistics(matched, plan, moments, beat)
    before, after = judge.losses(model), judge.losses(matched)
    verdict = compare(STATISTICS, before, after)
    return Repaired(matched, (verdict,), after) if verdict.kept else Repaired(model, (verdict,), before)


def reconstruct_layers(
    found: Repaired,
    sliced: nn.Module,
    origin: Origin,
    moments: BaseMoments,
    judge: Judge,
    beat: Callable[[], None] = lambda: None,
) -> Repaired:
    """Return `found` with the layers of `sliced`, its network as pruned, solved for if that helps. Not in place."""
    before = found.losses if found.losses is not None else judge.losses(found.model)
    solved = copy.deepcopy(sliced)
    outputs = BaseOutputs(origin.base, _images_in(moments.batches), moments.device)
    if not reconstruct(solved, origin.plan, outputs, beat):
        return found
    match_statistics(solved, origin.plan, moments, beat)
    after = judge.losses(solved)
    verdict = compare(RECONSTRUCTION, before, after)
    steps = (*found.steps, verdict)
    return Repaired(solved, steps, after) if verdict.kept else replace(found, steps=steps, losses=before)


def _images_in(batches: Sequence[Tensor]) -> Tensor:
    """Return the images (B, C, H, W) of as many batches of one shape as may be run at once."""
    shape = batches[0].shape[1:]
    images = torch.cat([batch for batch in batches if batch.shape[1:] == shape])
    affordable = SOLVED_PIXELS // math.prod(shape[-2:])
    return images[: max(affordable, min(LEAST_SOLVED, len(batches[0])))]


def is_sliced(model: nn.Module, origin: Origin) -> bool:
    """Tell whether a network has the weights of its base, of which a file holds half the digits."""
    untrained = dict(origin.plan.apply(origin.base).named_parameters())
    return all(
        torch.allclose(value.detach().cpu(), untrained[name].detach().cpu(), rtol=1e-3, atol=1e-6)
        for name, value in model.named_parameters()
    )


def calibration_images(imgsz: Size) -> int:
    """Return the number of images on which statistics are corrected."""
    return max(16, min(CALIBRATION_IMAGES, CALIBRATION_PIXELS // math.prod(sides(imgsz))))


def repair(
    model: nn.Module,
    data: str | Path,
    recovery: Recovery,
    *,
    origin: Origin | None,
    base: Path | None = None,
    sliced: nn.Module | None = None,
    masks: WeightMasks | None = None,
    work_dir: Path,
    on_progress: Callable[[float], None] | None = None,
    beat: Callable[[], None] = lambda: None,
    fitness: Callable[[nn.Module], float] | None = None,
    on_trained: Callable[[nn.Module], None] = lambda model: None,
) -> Repaired:
    """Repair a pruned Ultralytics network. `model` may be trained in place; use the result.

    Args:
        data: what Ultralytics is given; only its training images are used.
        recovery: the fine-tune; none with 0 epochs. Slimming costs accuracy on purpose, so with it the last epoch is
            the result, whatever the verdict.
        origin: the base and plan of the network, whether or not it was trained since; None if unknown, so that
            statistics stay.
        base: the unpruned checkpoint: teacher, and reference for the damage.
        sliced: the network as pruned, where `model` was fine-tuned already and goes on: the rate is that of its damage.
            With the rate of what is left to repair the fine-tune would stay where it is (docs/recovery.md).
        masks: weights that stay zero.
        work_dir: receives Ultralytics' own files.
        on_progress: called with the share of the fine-tune that is done, 0 to 1.
        beat: called before every batch outside training, as a moment to wait for others.
        fitness: scores every epoch in place of the loss on held-out images (more is better): nothing is held out then,
            and the best epoch is the result. For a final fine-tune, on the validation split.
        on_trained: called with the fine-tuned network before anything else is done with it: hours may be in it. With
            `fitness` after every epoch that is the best so far, too.

    Raises GrewBackError, DivergedError, RecoveryError.
    """
    judge = TrainingLoss.of(data_trainer(model, data, recovery, work_dir), beat)
    repaired, again, moments, of_plan = Repaired(model, ()), None, None, 0.0
    if origin is not None:
        task, count = str(getattr(model, "task", "detect")), calibration_images(recovery.imgsz)
        images = calibration_batches(data, recovery.imgsz, count, task=task, seed=recovery.seed, without=judge.files)
        moments = BaseMoments(origin.base, paced(images, beat), judge.trainer.device)
        repaired = correct_statistics(model, origin.plan, moments, judge, beat)
        if recovery.reconstruct and masks is None and is_sliced(model, origin):
            lacking = repaired.losses if repaired.losses is not None else judge.losses(model)
            unpruned, without_level = share_lost(model, origin.base, judge.losses)
            of_plan = damage_of(lacking, unpruned)
            if max(of_plan, without_level) > NOTHING_LOST:
                repaired = reconstruct_layers(repaired, model, origin, moments, judge, beat)
        again = partial(match_statistics, plan=origin.plan, base=moments, beat=beat)
    if not recovery.epochs:
        return repaired
    judged = None if recovery.slimming else fitness
    start = repaired.model
    before = repaired.losses if repaired.losses is not None else judge.losses(start)
    damage, lost = None, 0.0
    if base is not None:
        unpruned, lost = share_lost(model, load_model(base), judge.losses)
        damage = max(damage_of(before, unpruned), lost)
        if sliced is not None and origin is not None and moments is not None:
            fresh = correct_statistics(sliced, origin.plan, moments, judge, beat)
            of_plan = damage_of(judge.losses(fresh.model), unpruned)
    if damage is not None and recovery.spend == "need" and fitness is None and not recovery.slimming:
        recovery = replace(recovery, epochs=needed_epochs(recovery.epochs, damage))
    repaired = replace(repaired, epochs=recovery.epochs, damage=damage)
    if not recovery.epochs:
        return repaired
    tuned = recover(
        copy.deepcopy(start),
        data,
        recovery,
        base=base,
        damage=None if damage is None else max(damage, of_plan),
        held_out=judge.files if fitness is None else frozenset(),
        masks=masks,
        work_dir=work_dir,
        on_progress=on_progress,
        fitness=judged,
        correct_statistics=again,
        on_best=on_trained,
    )
    on_trained(tuned)
    losses_of = judge.losses if judged is None else partial(_shortfall, judged)
    before = before if judged is None else losses_of(start)
    tuned, after, statistics = _with_better_statistics(tuned, again, losses_of)
    verdict = compare(FINE_TUNE, before, after)
    if recovery.slimming or lost >= IDLE:  # without a level that was used, the loss before says nothing
        verdict = replace(verdict, kept=True)
    if not verdict.kept:
        return replace(repaired, steps=(*repaired.steps, verdict))
    return replace(repaired, model=tuned, steps=(*repaired.steps, verdict, *statistics), losses=after)


def _with_better_statistics(
    tuned: nn.Module, again: Callable[[nn.Module], None] | None, losses_of: Callable[[nn.Module], Floats]
) -> tuple[nn.Module, Floats, tuple[Verdict, ...]]:
    """Return the fine-tuned network with its own or corrected statistics, its losses, and the correction's verdict."""
    losses = losses_of(tuned)
    if again is None or not norms_of(tuned):
        return tuned, losses, ()
    corrected = copy.deepcopy(tuned)
    again(corrected)
    corrected_losses = losses_of(corrected)
    verdict = compare(STATISTICS_AGAIN, losses, corrected_losses)
    return (corrected, corrected_losses, (verdict,)) if verdict.kept else (tuned, losses, (verdict,))


def _shortfall(fitness: Callable[[nn.Module], float], model: nn.Module) -> Floats:
    """Return the negated fitness (1,), as a loss."""
    return np.array([-fitness(model)])


NOTHING_LOST = 0.01
"""Damage up to which a fine-tune has nothing to repair: what it then changes is within the error of the accuracy."""
MUCH_LOST = 0.1
"""Damage from which on epochs rise above those asked for, in proportion to its logarithm."""
MOST_EPOCHS = 4
"""Times as many as were asked for, at the most."""


def needed_epochs(asked: float, damage: float) -> float:
    """Return the epochs for a network of a given damage (`damage_of`): 0, `asked`, or up to MOST_EPOCHS times as many.

    Where nothing was lost an epoch gives nothing, where much was lost each further epoch still gives much
    (docs/recovery.md): so the same time is worth more to those far from the base.
    """
    if damage <= NOTHING_LOST:
        return 0
    if damage <= MUCH_LOST:
        return asked
    return asked * min(MOST_EPOCHS, 2 + round(2 * math.log10(min(damage, 1e6) / MUCH_LOST)))


def damage_of(pruned: Floats, unpruned: Floats) -> float:
    """Return the relative rise of the loss over the base's on the same batches; infinity if it is not finite."""
    if not np.isfinite(pruned).all():
        return math.inf
    return max(0.0, float(pruned.sum()) / max(float(unpruned.sum()), 1e-9) - 1.0)
