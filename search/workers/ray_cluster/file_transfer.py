"""The files that travel between the coordinator and a worker on another node: what a job needs and what it leaves.

Out: the model, the YAML of the data and the ONNX of the base, as bytes, put where they are missing. Home: the job's
folder. `result.json` is written last, whole and synced: before that a trial has not ended, whatever else has arrived.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from search.run_folder.atomic import write_atomic
from search.trial import Failure, FailureKind

RESULT = "result.json"
T = TypeVar("T")
Files = Mapping[str, bytes]
"""Absolute path -> content."""


def packed(paths: Iterable[Path]) -> Files:
    """Read the content of those files that exist."""
    return {str(path.resolve()): path.read_bytes() for path in paths if path.is_file()}


def unpack(files: Files) -> None:
    """Write every missing file to the coordinator's path; existing ones are kept.

    Raises OSError where its folder cannot be made on this node.
    """
    for name, content in files.items():
        if not Path(name).exists():
            write_atomic(Path(name), content, durable=False)


def bring_home(parcel: Path, folder: Path, outcome: T | Failure) -> T | Failure:
    """On the coordinator: move a parcel's files into the job's folder.

    Returns `outcome`, or a failure where result.json is not whole: then nothing is moved.
    """
    result = parcel / RESULT
    content = result.read_bytes() if result.exists() else None
    try:
        if content is not None:
            json.loads(content)
    except ValueError as error:
        return Failure(FailureKind.ERROR, f"what came back from the worker cannot be read: {type(error).__name__}")
    for item in parcel.iterdir():
        if item != result:
            _replace(item, folder / item.name)
    if content is not None:
        write_atomic(folder / RESULT, content)
    return outcome


def _replace(item: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    shutil.move(item, target)
