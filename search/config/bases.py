"""Several bases in one study (`model: [s.pt, n.pt]`): their names, and what they must have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search.config.inputs.checkpoint_facts import ModelOutputs, checkpoint_outputs
from search.config.inputs.user_code import UserReference
from search.errors import ConfigError

MOST = 8
"""Bases of one study: each has its own preparation and its own initial candidates."""


def models_fault(models: Sequence[str]) -> str | None:
    """Return why these cannot be the bases of one study, as far as their names say; None if they can."""
    if not models:
        return "expected a checkpoint, or several: [yolov8s.pt, yolov8n.pt]"
    if len(models) > MOST:
        return f"{len(models)} bases; expected at most {MOST}"
    if len(set(models)) < len(models):
        twice = next(model for model in models if models.count(model) > 1)
        return f"{twice} is there twice; expected different checkpoints"
    if len(models) > 1 and any(UserReference.parse(model) is not None for model in models):
        return "several bases are checkpoints of Ultralytics; a network of your own is searched in a study of its own"
    return None


def base_names(models: Sequence[str]) -> tuple[str, ...]:
    """Return a short, different name for each checkpoint: `yolov8s`; `train-best` and `train2-best` where both files
    are called `best.pt`, by the nearest folder that differs."""
    paths = [Path(model) for model in models]
    return tuple(_told_apart(path, [one for one in paths if one.stem == path.stem]) for path in paths)


def _told_apart(path: Path, alike: Sequence[Path]) -> str:
    """Return the name of one of several files with the same stem."""
    if len(alike) == 1:
        return path.stem
    depth = min(len(one.parts) for one in alike) - 1
    for level in range(2, depth + 1):
        if len({one.parts[-level] for one in alike}) == len(alike):
            return f"{path.parts[-level]}-{path.stem}"
    return f"{path.stem}-{alike.index(path) + 1}"


def check_alike(models: Sequence[str]) -> None:
    """Check that all bases solve the same task with the same classes, from their checkpoints, before any is loaded.

    What a checkpoint does not say is found out when it is loaded (`search.prepare.preflight`).

    Raises:
        ConfigError: names the two that differ, and how.
    """
    first, *others = models
    wanted = checkpoint_outputs(Path(first)) if others else ModelOutputs()
    for model in others:
        check_same(first, model, wanted, checkpoint_outputs(Path(model)))


def check_same(first: str, other: str, wanted: ModelOutputs, found: ModelOutputs) -> None:
    """Compare the task and the classes of two bases, as far as both are known. Raises ConfigError if they differ."""
    if wanted.task and found.task and wanted.task != found.task:
        raise _differ(first, other, f"a {wanted.task} model", f"a {found.task} model")
    before, after = wanted.classes or found.classes or (), found.classes or wanted.classes or ()
    if len(before) != len(after):
        raise _differ(first, other, f"a model of {len(before)} classes", f"one of {len(after)}")
    for number, (was, is_) in enumerate(zip(before, after, strict=True)):
        if was != is_:
            raise _differ(first, other, f"a model whose class {number} is {was}", f"one where it is {is_}")


def _differ(first: str, other: str, is_first: str, is_other: str) -> ConfigError:
    return ConfigError(
        f"{Path(first).name} is {is_first}, {Path(other).name} {is_other}: they cannot be the bases of one study",
        where="model",
        expected="checkpoints of the same task, trained on the same classes",
        next_command="search each in a study of its own",
    )
