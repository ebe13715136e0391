"""The model and its task: an Ultralytics model on its data, or a user's own model and task.

These functions wrap those of the same name in `pruning` and `objectives`; for a user's own model (`model:
ef.py:build`) or task (`data: ef.py:task`) they call the user's code instead, so that callers need not distinguish.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from objectives.accuracy import measure as by_ultralytics
from objectives.accuracy.measure import Accuracy
from objectives.image_size import Size, sides
from objectives.objective import Estimate
from objectives.runtimes.torch_runner import input_channels
from objectives.ultralytics_door import is_ultralytics
from objectives.weights import kernel_weights
from pruning.checkpoints import checkpoint
from pruning.recovery import bn_calibration
from pruning.recovery import level_use as counting
from pruning.recovery import repair as repairing
from pruning.recovery.finetune import Recovery
from pruning.recovery.level_use import LevelUse
from pruning.recovery.repair import Origin, Repaired
from search.config.inputs import user_modules
from search.config.inputs.ultralytics_safety import harden
from search.config.inputs.user_code import UserReference
from search.config.spec import StudySpec
from search.config.targets.limits import FIGURE as WEIGHTS
from search.evaluate import user_task

harden()  # every reader of a model or data for a study imports this module


def load_model(path: str | Path) -> nn.Module:
    """Load the network of a checkpoint or of a user's function: float32, evaluation mode, on the CPU.

    Raises CheckpointError, or ConfigError for a user's function or modules.
    """
    user_modules.use(user_modules.declared())
    reference = UserReference.parse(path)
    if reference is not None:
        return user_task.build(reference)
    return user_task.load_plain(Path(path)) if user_task.is_plain(Path(path)) else checkpoint.load_model(path)


def save_model(model: nn.Module, path: str | Path, **metadata: str | int | float | None) -> None:
    """Write a network for `load_model`; Ultralytics' in half precision, others unchanged."""
    if is_ultralytics(model):
        checkpoint.save_model(model, path, dtype=torch.float16, **metadata)
    else:
        user_task.save_plain(model, Path(path), **metadata)


def weight_figures(spec: StudySpec, model: nn.Module) -> dict[str, Estimate]:
    """Return weights_mb (10^6 bytes in INT8) where the study names it; counting takes a copy of the network."""
    return {WEIGHTS: Estimate.exact(kernel_weights(model) / 1e6)} if spec.names_ours(WEIGHTS) else {}


def example_input(model: nn.Module, imgsz: Size) -> Tensor:
    """Return one input of zeros, (1, channels, height, width)."""
    return torch.zeros(1, input_channels(model), *sides(imgsz))


def calibration_batches(
    data: str | Path, imgsz: Size, count: int = 256, batch: int = 32, task: str = "detect", seed: int = 0
) -> Iterator[Tensor]:
    """Yield `count` training inputs; a user's task yields batches of its own size. Raises RecoveryError if none."""
    reference = UserReference.parse(data)
    if reference is not None:
        return user_task.batches_of(user_task.task_of(reference), count, seed)
    return bn_calibration.calibration_batches(data, imgsz, count, batch, task, seed)


def level_use(
    model: nn.Module,
    data: str | Path,
    *,
    imgsz: Size,
    device: str,
    work_dir: Path,
    beat: Callable[[], None] = lambda: None,
) -> LevelUse | None:
    """Count as `pruning.recovery.level_use.level_use`; None for a user's own task, which has no such assignments."""
    if UserReference.parse(data) is not None or not is_ultralytics(model):
        return None
    return counting.level_use(model, data, imgsz=imgsz, device=device, work_dir=work_dir, beat=beat)


def repair(
    model: nn.Module,
    data: str | Path,
    recovery: Recovery,
    *,
    origin: Origin | None,
    base: Path,
    sliced: nn.Module | None = None,
    work_dir: Path,
    on_progress: Callable[[float], None] | None = None,
    beat: Callable[[], None] = lambda: None,
    fitness: Callable[[nn.Module], float] | None = None,
    on_trained: Callable[[nn.Module], None] = lambda model: None,
) -> Repaired:
    """Repair as `pruning.recovery.repair.repair`; a user's task fine-tunes by its own code. Raises RecoveryError."""
    reference = UserReference.parse(data)
    if reference is None:
        return repairing.repair(
            model, data, recovery, origin=origin, base=base, sliced=sliced, work_dir=work_dir,
            on_progress=on_progress, beat=beat, fitness=fitness, on_trained=on_trained,
        )  # fmt: skip
    return user_task.repaired(
        user_task.task_of(reference), model, recovery, origin=origin, on_progress=on_progress, beat=beat
    )


def measure_accuracy(model: nn.Module, data: str | Path, **settings: Any) -> Accuracy:
    """Measure as `objectives.accuracy.measure.measure_accuracy`; a user's task only receives the device."""
    reference = UserReference.parse(data)
    if reference is None:
        return by_ultralytics.measure_accuracy(model, data, **settings)
    return user_task.judged(user_task.task_of(reference), model, device=str(settings.get("device", "cpu")))


def accuracy_of(
    weights: Path,
    spec: StudySpec,
    imgsz: Size,
    device: str,
    folder: Path,
    shelf: Path | None = None,
    pause: Callable[[], None] | None = None,
) -> Accuracy:
    """Measure the accuracy of a checkpoint as saved, hence in the precision in which it is delivered.

    Args:
        imgsz: input size in pixels.
        folder: for temporary files.
        shelf: folder of cached validation batches (`objectives.accuracy.batch_cache`).
        pause: called before every batch.
    """
    model = load_model(weights)
    if pause is not None:
        model.register_forward_pre_hook(lambda module, images: pause())
    return measure_accuracy(model, spec.data, imgsz=imgsz, device=device, work_dir=folder, shelf=shelf)
