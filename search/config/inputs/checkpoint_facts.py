"""Read a checkpoint's task, classes and training input size without loading it.

A checkpoint is a pickle, and unpickling runs code. `pruning.checkpoints.inert_reader` replaces what it names by inert
objects, so nothing runs, PyTorch is not imported, and a fraction of a second is enough.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.image_size import Size, size_of
from pruning.checkpoints.inert_reader import HarmfulCheckpoint, Inert, read_inert
from pruning.errors import CheckpointError

_TASKS = {
    "DetectionModel": "detect",
    "SegmentationModel": "segment",
    "PoseModel": "pose",
    "OBBModel": "obb",
    "ClassificationModel": "classify",
}


@dataclass(frozen=True)
class CheckpointFacts:
    """Task and input size; None if the checkpoint does not record them.

    The size is the one that we noted, of a fine-tune or of pruning in steps; else that of a rectangle for which the
    network was pruned; else that of the training, which has one side.
    """

    task: str | None = None
    imgsz: Size | None = None


@dataclass(frozen=True)
class ModelOutputs:
    """What a model finds: its task, and its classes in their order; None where that is not recorded."""

    task: str | None = None
    classes: tuple[str, ...] | None = None


def checkpoint_facts(path: Path) -> CheckpointFacts:
    """Read the facts of an Ultralytics checkpoint; empty for anything else, without an error: loading will raise it.

    Raises:
        HarmfulCheckpoint: loading it would exhaust memory or time.
    """
    document = _document(path)
    return (
        CheckpointFacts()
        if document is None
        else CheckpointFacts(_task(document), _noted(document) or _rectangle(document) or _imgsz(document))
    )


def checkpoint_outputs(path: Path) -> ModelOutputs:
    """Read what the model of an Ultralytics checkpoint finds; raises as `checkpoint_facts`."""
    document = _document(path)
    return ModelOutputs() if document is None else ModelOutputs(_task(document), _classes(document))


def checkpoint_network(path: Path) -> tuple[str | None, frozenset[str]]:
    """Read an Ultralytics checkpoint's task, and the names of its network's blocks; raises as `checkpoint_facts`."""
    document = _document(path)
    model = None if document is None else document.get("ema") or document.get("model")
    if document is None or not isinstance(model, Inert):
        return None, frozenset()
    made_of = _state(model).get("yaml")
    parts = [made_of.get(part) for part in ("backbone", "head")] if isinstance(made_of, Mapping) else []
    rows = [row for part in parts if isinstance(part, list) for row in part]
    return _task(document), frozenset(str(row[2]) for row in rows if isinstance(row, list | tuple) and len(row) > 2)


def _document(path: Path) -> Mapping[str, Any] | None:
    """Return the content of a checkpoint as inert objects; None for anything else."""
    try:
        document = read_inert(path)
    except HarmfulCheckpoint:
        raise
    except CheckpointError:
        return None
    return document if isinstance(document, Mapping) else None


def _task(document: Mapping[str, Any]) -> str | None:
    model = document.get("ema") or document.get("model")
    if not isinstance(model, Inert):
        return None
    task = _state(model).get("task")
    return task if isinstance(task, str) and task else _TASKS.get(model.named.name)


def _classes(document: Mapping[str, Any]) -> tuple[str, ...] | None:
    model = document.get("ema") or document.get("model")
    names = _state(model).get("names") if isinstance(model, Inert) else None
    named = list(names.values()) if isinstance(names, Mapping) else names
    return tuple(map(str, named)) if isinstance(named, list | tuple) and named else None


def _state(model: Inert) -> Mapping[str, Any]:
    state = getattr(model, "state", {})
    return state if isinstance(state, Mapping) else {}


def _noted(document: Mapping[str, Any]) -> Size | None:
    """Return the input size that we wrote into the checkpoint when we trained it."""
    return size_of(document.get("paretoprune_imgsz"))


def _rectangle(document: Mapping[str, Any]) -> Size | None:
    """Return the input size that the plan of a pruned checkpoint was made for, where that has two sides."""
    plan = document.get("paretoprune_plan")
    try:
        shape = json.loads(plan)["example_shape"] if isinstance(plan, str) else None
    except (ValueError, LookupError, TypeError, RecursionError):  # no plan of ours
        return None
    size = size_of(shape[2:]) if isinstance(shape, list) else None
    return None if isinstance(size, int) else size


def _imgsz(document: Mapping[str, Any]) -> int | None:
    arguments = document.get("train_args")
    size = arguments.get("imgsz") if isinstance(arguments, Mapping) else None
    sizes = size if isinstance(size, list | tuple) else [size]
    if not sizes or not all(isinstance(side, int) and not isinstance(side, bool) for side in sizes):
        return None
    return max(sizes) if max(sizes) > 0 else None
