"""File transfer between the coordinator and a worker on another node.

To the worker: the model, the YAML of the data and the ONNX of the base, as bytes, written where they are missing. Back:
the trial's folder. `result.json` is written last, atomically: before that the trial has not ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from search.run_folder.atomic import write_atomic
from search.run_folder.record import read_outcome, write_outcome
from search.trial import Failure, FailureKind, Measurement, Outcome

RESULT = "result.json"
Luggage = Mapping[str, bytes]
"""Absolute path -> content."""


def packed(paths: Iterable[Path]) -> Luggage:
    """Read the content of those files that exist."""
    return {str(path.resolve()): path.read_bytes() for path in paths if path.is_file()}


def unpack(luggage: Luggage) -> None:
    """Write every missing file to the coordinator's path; existing ones are kept.

    Raises OSError where its folder cannot be made on this node.
    """
    for name, content in luggage.items():
        if not Path(name).exists():
            write_atomic(Path(name), content, durable=False)


def leave(folder: Path, outcome: Outcome, parcel: Path) -> None:
    """On the worker: copy a trial's folder and outcome into `parcel`."""
    shutil.copytree(folder, parcel, dirs_exist_ok=True)
    if isinstance(outcome, Failure):  # a measurement has left its own
        write_outcome(parcel, outcome)


def bring_home(parcel: Path, folder: Path) -> Outcome:
    """On the coordinator: move a parcel's files into the trial's folder and return the outcome.

    A failure has only its log and traceback; the loop records it.
    """
    try:
        outcome, _ = read_outcome(parcel)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Failure(FailureKind.ERROR, f"what came back from the worker cannot be read: {type(error).__name__}")
    for item in parcel.iterdir():
        if item.name != RESULT:
            _replace(item, folder / item.name)
    if isinstance(outcome, Measurement):
        write_outcome(folder, outcome)
    return outcome


def _replace(item: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    shutil.move(item, target)
