"""A user's own model and task: a plain PyTorch network, and three functions that feed, fine-tune and evaluate it.

The user's file is executed, with their rights, in the processes that train and measure.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from objectives.accuracy.bootstrap import resample_weights
from objectives.accuracy.measure import Accuracy
from objectives.objective import OBJECTIVES, Estimate
from pruning.errors import CheckpointError, DivergedError, RecoveryError, first_line
from pruning.recovery.bn_calibration import BaseMoments
from pruning.recovery.finetune import Recovery, paced
from pruning.recovery.repair import (
    CALIBRATION_IMAGES,
    LEAST_SOLVED,
    Origin,
    Repaired,
    correct_statistics,
    is_sliced,
    reconstruct_layers,
)
from pruning.sensitivity import OutputDivergence
from search.config.inputs.python_file import execute
from search.config.inputs.user_code import UserReference
from search.errors import ConfigError

RESAMPLES = 200
METHODS = ("batches", "finetune", "evaluate")
PLAN = "paretoprune_plan"
"""Where a file, and the network that was read from it, keep the plan."""

Figure = float | tuple[float, float] | Sequence[float]


class UserTask(Protocol):
    """Task of a user's network: a module, or any object, with these three functions."""

    def batches(self, seed: int) -> Iterable[Tensor]:
        """Yield training inputs, (B, C, S, S) float32, as many as the caller takes.

        They serve to correct batch norms and to measure sensitivities.
        """
        ...

    def finetune(
        self, model: nn.Module, *, epochs: int, seed: int, device: str, on_progress: Callable[[float], None]
    ) -> nn.Module:
        """Train the pruned network for `epochs` and return it.

        Call `on_progress` with the share done, 0 to 1, now and then: the trial may pause there while others are timed.
        """
        ...

    def evaluate(self, model: nn.Module, *, device: str) -> Mapping[str, Figure]:
        """Return the figures that study.yaml declares, by name.

        Each is a number; a number and its standard error; or the values of all validation samples, whose mean is the
        figure and whose resampling gives the error.
        """
        ...


def build(reference: UserReference) -> nn.Module:
    """Return the network: the function's result, float32, in evaluation mode, on the CPU.

    Raises:
        ConfigError: no such file or function, it raised, or it returned something else.
    """
    found = _call(reference, _named(reference))
    if not isinstance(found, nn.Module):
        raise ConfigError(f"{reference} gave a {type(found).__name__}", where="model", expected="a torch.nn.Module")
    model: Any = found.float().eval().cpu()
    model.paretoprune_source = str(reference)
    return model  # type: ignore[no-any-return]


def task_of(reference: UserReference) -> UserTask:
    """Return the task: the object itself, or the result of a function or class called with the study's data, if any.

    Raises:
        ConfigError: no such name, or one of the three functions is missing.
    """
    found = _named(reference)
    if not _has_methods(found) or isinstance(found, type):
        found = _call(reference, found, *([reference.data] if reference.data else []))
    missing = [name for name in METHODS if not callable(getattr(found, name, None))]
    if missing:
        wanted = ", ".join(METHODS)
        raise ConfigError(f"{reference} has no {missing[0]}()", where="task", expected=f"an object with {wanted}")
    task: UserTask = found
    return task


def _has_methods(found: object) -> bool:
    return all(callable(getattr(found, name, None)) for name in METHODS)


def _named(reference: UserReference) -> Any:
    module = _executed(reference.file.resolve())
    try:
        return getattr(module, reference.name)
    except AttributeError:
        known = ", ".join(name for name in vars(module) if not name.startswith("_"))
        raise ConfigError(f"{reference.file} has no {reference.name}", expected=known or "a function") from None


def _call(reference: UserReference, function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # the user's own code may raise anything
        raise ConfigError(f"{reference} raised {type(error).__name__}: {error}", where=str(reference.file)) from error


def _executed(file: Path) -> ModuleType:
    """Execute the file under a name that no other module has: users call it as they like."""
    name = f"own_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    return execute(file, name, where="model and data", expected="a Python file with the model and its task")


def batches_of(task: UserTask, count: int, seed: int) -> Iterator[Tensor]:
    """Yield at most `count` training inputs, in the task's own batches.

    Raises:
        RecoveryError: the task yields none, or something else.
    """
    seen = 0
    for batch in task.batches(seed):
        inputs = batch[0] if isinstance(batch, list | tuple) else batch  # a data loader gives (inputs, targets)
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise RecoveryError(f"batches() gave a {type(inputs).__name__}; expected float tensors (B, C, S, S)")
        yield inputs[: count - seen]
        seen += len(inputs)
        if seen >= count:
            return
    if not seen:
        raise RecoveryError("batches() gave nothing; expected training inputs")


def repaired(
    task: UserTask,
    model: nn.Module,
    recovery: Recovery,
    *,
    origin: Origin | None,
    on_progress: Callable[[float], None] | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Repaired:
    """Repair a user's own network. Raises what `finetuned` raises.

    Corrected statistics are accepted by the divergence of outputs, since there is no loss; the user's fine-tune is
    always accepted.
    """
    found = Repaired(model, ())
    if origin is not None:
        moments = BaseMoments(origin.base, paced(batches_of(task, CALIBRATION_IMAGES, recovery.seed), beat))
        judge = OutputDivergence(origin.base, moments.batches, beat)
        found = correct_statistics(model, origin.plan, moments, judge, beat)
        if recovery.reconstruct and is_sliced(model, origin):
            others = moments.batches[math.ceil(LEAST_SOLVED / len(moments.batches[0])) :]
            unseen = OutputDivergence(origin.base, others, beat) if others else judge
            found = reconstruct_layers(replace(found, losses=None), model, origin, moments, unseen, beat)
    if not recovery.epochs:
        return found
    epochs, seed, device = int(recovery.epochs), recovery.seed, recovery.device
    tuned = finetuned(task, found.model, epochs=epochs, seed=seed, device=device, on_progress=on_progress)
    return Repaired(tuned, found.steps, epochs=epochs)


def finetuned(
    task: UserTask,
    model: nn.Module,
    *,
    epochs: int,
    seed: int,
    device: str,
    on_progress: Callable[[float], None] | None = None,
) -> nn.Module:
    """Run the user's fine-tune and check its result: the same shapes, and finite.

    Raises:
        RecoveryError: it returned no network, one of other shapes, or one that diverged.
    """
    before = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    source = getattr(model, "paretoprune_source", None)
    found: Any = task.finetune(
        model.train(), epochs=epochs, seed=seed, device=_device(device), on_progress=on_progress or (lambda share: None)
    )
    if not isinstance(found, nn.Module):
        raise RecoveryError(f"finetune() gave a {type(found).__name__}; expected the network")
    if {name: tuple(value.shape) for name, value in found.state_dict().items()} != before:
        raise RecoveryError("finetune() gave a network of other shapes: it must train the one that it was given")
    if not all(bool(torch.isfinite(value).all()) for value in found.parameters()):
        raise DivergedError("the fine-tune diverged: its weights are not finite; lower its learning rate")
    found = found.cpu().eval()
    found.paretoprune_source = source
    return found  # type: ignore[no-any-return]


def judged(task: UserTask, model: nn.Module, *, device: str, seed: int = 0) -> Accuracy:
    """Evaluate a network by the task, with errors. Raises ValueError for a figure that is not finite."""
    place = _device(device)
    with torch.no_grad():
        said = task.evaluate(model.to(place).eval(), device=place)
    model.cpu()
    for name in said:
        if name not in OBJECTIVES:
            what = f"evaluate() gave {name!r}, which the study does not declare"
            raise ConfigError(what, where="figures", expected=f"figures: {{{name}: {{unit: ..., direction: min}}}}")
    drawn = {str(name): _resampled(value, seed) for name, value in said.items() if _is_samples(value)}
    figures = {str(name): _estimate(value, drawn.get(str(name))) for name, value in said.items()}
    samples = max((np.size(value) for value in said.values() if _is_samples(value)), default=0)
    replicates = {name: tuple(np.round(values, 6).tolist()) for name, values in drawn.items()}
    return Accuracy(figures, {}, samples, samples, RESAMPLES if samples else 0, {}, replicates)


def _resampled(value: Any, seed: int) -> np.ndarray:
    """Return the mean of each resample; all networks share the drawn samples, so that differences have an error."""
    samples = np.asarray(value, dtype=np.float64).ravel()
    weights = resample_weights(len(samples), len(samples), resamples=RESAMPLES, seed=seed)
    return np.asarray(weights @ samples / len(samples))


def _estimate(value: Any, drawn: np.ndarray | None) -> Estimate:
    if drawn is not None:
        return Estimate.normal(float(np.mean(np.asarray(value, dtype=np.float64))), float(drawn.std(ddof=1)))
    if isinstance(value, tuple):
        return Estimate.normal(float(value[0]), float(value[1]))
    return Estimate.exact(float(value))


def _is_samples(value: Any) -> bool:
    """Return True for samples; a pair is a value and its standard error."""
    if isinstance(value, np.ndarray | Tensor):
        return value.ndim > 0
    return isinstance(value, list) or (isinstance(value, tuple) and len(value) != 2)


def _device(device: str) -> str:
    """Return the device by PyTorch's name."""
    return f"cuda:{device}" if device.isdecimal() else device


def save_plain(model: nn.Module, path: Path, **metadata: Any) -> None:
    """Write the network's tensors, its source and its plan: the file contains no code.

    Without this project, `torch.load(path)["state_dict"]` gives the tensors; ONNX and TorchScript give a network.
    """
    from pruning.checkpoints.checkpoint import write_atomically

    known = {name: getattr(model, name) for name in ("paretoprune_source", PLAN) if hasattr(model, name)}
    write_atomically(path, {"paretoprune_source": None, **known, "state_dict": model.state_dict(), **metadata})


def load_plain(path: Path) -> nn.Module:
    """Load the network of `save_plain`: built by its source, pruned by its plan, filled with its tensors.

    Raises:
        CheckpointError: a damaged file, or a source that is missing or builds another network now.
    """
    from pruning import Plan
    from pruning.checkpoints.checkpoint import check_restricted
    from pruning.errors import PruningError

    check_restricted(path)
    try:
        stored: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        model = build(UserReference.required(stored["paretoprune_source"]))
        if PLAN in stored:
            model = Plan.from_json(str(stored[PLAN])).apply(model)
            setattr(model, PLAN, str(stored[PLAN]))  # so that a file written of it can be built again
        model.load_state_dict(stored["state_dict"])
    except (ConfigError, PruningError, RuntimeError, KeyError) as error:
        what = f"{path}: cannot be built again from its source: {first_line(error)}"
        raise CheckpointError(what) from error
    return model.eval()


def is_pruned(model: nn.Module) -> bool:
    """Return whether a user's network was loaded from a file with a plan; it cannot be pruned twice."""
    return hasattr(model, PLAN)


def refuse_plain(path: Path, what: str) -> None:
    """Raise ConfigError if the file is of `save_plain`, which `what` does not support."""
    if is_plain(path):
        raise ConfigError(
            f"{path} holds a network of your own; {what} is made for Ultralytics models, whose training it knows",
            expected="your own training loop, on `search.evaluate.workload.load_model(path)`: see docs/own_task.md",
        )


def is_plain(path: Path) -> bool:
    """Return whether a file was written by `save_plain`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except Exception:  # an Ultralytics checkpoint is refused here
        return False
    return isinstance(stored, dict) and "paretoprune_source" in stored
