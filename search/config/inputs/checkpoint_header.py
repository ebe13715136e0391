"""Read a checkpoint's task and training input size without loading it.

A checkpoint is a pickle, and unpickling runs code. Here every class and function that it names is replaced by an inert
object, so nothing runs, PyTorch is not imported, and a few milliseconds are enough.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TASKS = {
    "DetectionModel": "detect",
    "SegmentationModel": "segment",
    "PoseModel": "pose",
    "OBBModel": "obb",
    "ClassificationModel": "classify",
}


@dataclass(frozen=True)
class CheckpointFacts:
    """Task and input size; None if the checkpoint does not record them."""

    task: str | None = None
    imgsz: int | None = None


def checkpoint_facts(path: Path) -> CheckpointFacts:
    """Read the facts of an Ultralytics checkpoint; empty for anything else, without an error: loading will raise it."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(name) as file:
                document = _InertUnpickler(file).load()
    except Exception:  # a damaged or foreign file may fail in any way
        return CheckpointFacts()
    if not isinstance(document, Mapping):
        return CheckpointFacts()
    return CheckpointFacts(_task(document), _imgsz(document))


def _task(document: Mapping[str, Any]) -> str | None:
    model = document.get("ema") or document.get("model")
    said = getattr(model, "state", {})
    task = said.get("task") if isinstance(said, Mapping) else None
    return str(task) if task else _TASKS.get(getattr(model, "name", ""))


def _imgsz(document: Mapping[str, Any]) -> int | None:
    arguments = document.get("train_args")
    size = arguments.get("imgsz") if isinstance(arguments, Mapping) else None
    size = max(size) if isinstance(size, list | tuple) and size else size
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


class _Placeholder:
    """Stand-in for any object of a pickle; ignores its arguments."""

    name = ""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Ignore an item of a list."""

    def extend(self, values: Any) -> None:
        """Ignore the items of a list."""

    def add(self, value: Any) -> None:
        """Ignore an item of a set."""


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return (
            OrderedDict
            if (module, name) == ("collections", "OrderedDict")
            else type(name, (_Placeholder,), {"name": name})
        )

    def persistent_load(self, pid: Any) -> Any:
        return None
