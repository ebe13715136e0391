"""Weights of trials on disk: their owner, integrity check and deletion."""

from __future__ import annotations

import shutil
from pathlib import Path

from search.errors import RunCorrupt
from search.run_folder.artefact_files import digest, size_bytes
from search.run_folder.quarantine import set_aside
from search.run_folder.record import RunRecord
from search.trial import Trial

FILE = "weights.pt"


def check_weights(record: RunRecord, number: int) -> None:
    """Check that a trial's weights are those that were validated; older runs have no record of it.

    Raises:
        RunCorrupt: they are not; they are quarantined, and the error names the command that makes them again.
    """
    trial = record.read_trial(number)
    said = "" if trial is None or trial.measurement is None else trial.measurement.weights
    path = record.trial_dir(number) / FILE
    if not said or digest(path) == said:
        return
    aside = set_aside(path)
    raise RunCorrupt(
        f"the weights of trial {number} are not those that were measured; they are {aside.name} now",
        where=str(path),
        expected=f"the sha256 {said}",
        next_command=f"paretoprune finetune {record.path}:{number} makes them again from its plan",
    )


def quantised(path: Path) -> list[Path]:
    """Return the files in reduced precision beside a checkpoint: weights_int8.onnx, weights_int8_openvino_model."""
    return sorted(path.parent.glob(f"{path.stem}_*"))


def discard_weights(path: Path) -> None:
    """Delete a checkpoint and the files derived from it."""
    path.unlink(missing_ok=True)
    for made in quantised(path):
        if made.is_dir():
            shutil.rmtree(made)
        else:
            made.unlink()


def discard_undelivered(record: RunRecord) -> None:
    """Delete the weights of baselines and repeats, which a killed process may have left: nothing of them is delivered.

    Only for the process that holds the run.
    """
    for folder in ("baselines", "confirm"):
        for path in record.path.glob(f"{folder}/*/"):
            discard_weights(path / FILE)


def origin(trial: Trial) -> int:
    """The trial whose weights belong to this one: itself, the one that it is a copy of or was exported from."""
    return trial.number if trial.same_as is None else trial.same_as


def _bytes(path: Path) -> int:
    """Return the size of a checkpoint and the files derived from it."""
    return sum(size_bytes(one) for one in (path, *quantised(path)))
