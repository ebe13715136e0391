"""The repair of a pruned network: statistics corrected, weights fine-tuned, and no step kept that does harm.

    sliced -> statistics -> fine-tune

Each step makes a copy, and the copy replaces what it was made from unless the judge finds it worse (judge.py). Which
steps help depends on how the base was trained, which nobody can see in its weights; so it is measured each time. There
is no second correction after the fine-tune: the trainer keeps the statistics itself, from where the first one put them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pruning.calibration import BaseMoments, calibration_batches, match_statistics
from pruning.checkpoint import load_model
from pruning.judge import Floats, Judge, TrainingLoss, Verdict, compare
from pruning.plan import Plan
from pruning.recover import Recovery, data_trainer, recover
from pruning.sparsity import WeightMasks

STATISTICS = "statistics"
FINE_TUNE = "fine-tune"

CALIBRATION_IMAGES = 128
"""The correction compares two networks on the same images, so it needs fewer than a measurement of statistics does."""


@dataclass(frozen=True)
class Origin:
    """Where a pruned network comes from: `plan.apply(base)`."""

    plan: Plan
    base: nn.Module


@dataclass(frozen=True)
class Repaired:
    """The network, in evaluation mode on the CPU, and what became of each step that was tried."""

    model: nn.Module
    steps: tuple[Verdict, ...]


def correct_statistics(model: nn.Module, origin: Origin, batches: Iterable[Tensor], judge: Judge) -> Repaired:
    """`model` with the statistics that suit its widths, or as it was where they do not help. Not in place."""
    if not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return Repaired(model, ())  # a fused network has none
    matched = copy.deepcopy(model)
    match_statistics(matched, origin.plan, BaseMoments(origin.base, batches))
    verdict = compare(STATISTICS, judge.losses(model), judge.losses(matched))
    return Repaired(matched if verdict.kept else model, (verdict,))


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
    beat: Callable[[], None] | None = None,
    fitness: Callable[[nn.Module], float] | None = None,
) -> Repaired:
    """Repair a pruned Ultralytics network. `model` may be trained in place; take the result.

    Args:
        data: what Ultralytics is given; only its training images are used.
        recovery: the fine-tune; none with 0 epochs.
        origin: what the network was made from; None where that is not known, so that statistics stay.
        base: the unpruned checkpoint: teacher, and what damage is measured against.
        masks: weights that stay zero.
        work_dir: receives Ultralytics' own files.
        on_progress: takes the share of the fine-tune that is done, 0 to 1.
        beat: called before every batch of what is not training, as a moment to wait for others.
        fitness: judges a fine-tune in the place of the loss on held-out images, after every epoch (more is better):
            nothing is held out then, and the best epoch is the result. For a last fine-tune, on the validation split.

    Raises GrewBackError, DivergedError, RecoveryError.
    """
    judge = TrainingLoss.of(data_trainer(model, data, recovery, work_dir), recovery.seed, beat)
    repaired = Repaired(model, ())
    if origin is not None:
        task = str(getattr(model, "task", "detect"))
        images = calibration_batches(data, recovery.imgsz, CALIBRATION_IMAGES, task=task, seed=recovery.seed)
        repaired = correct_statistics(model, origin, paced(images, beat), judge)
    if not recovery.epochs:
        return repaired
    start, before = repaired.model, judge.losses(repaired.model)
    tuned = recover(
        copy.deepcopy(start),
        data,
        recovery,
        base=base,
        damage=None if base is None else damage_of(before, judge.losses(load_model(base))),
        held_out=judge.files if fitness is None else frozenset(),
        masks=masks,
        work_dir=work_dir,
        on_progress=on_progress,
        fitness=fitness,
    )
    if fitness is None:
        verdict = compare(FINE_TUNE, before, judge.losses(tuned))
    else:
        change = fitness(start) - fitness(tuned)
        verdict = Verdict(FINE_TUNE, change <= 0, change, 0.0)
    return Repaired(tuned if verdict.kept else start, (*repaired.steps, verdict))


def damage_of(pruned: Floats, unpruned: Floats) -> float:
    """Relative rise of the loss over the base's on the same batches: 0 is no damage."""
    return max(0.0, float(pruned.sum()) / max(float(unpruned.sum()), 1e-9) - 1.0)


def paced(batches: Iterable[Any], beat: Callable[[], None] | None) -> Iterator[Any]:
    """The same batches, with `beat` before each."""
    for batch in batches:
        if beat is not None:
            beat()
        yield batch
