"""Which trials keep their weights on disk."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from search.deliver.artefact import size_bytes
from search.errors import RunCorrupt
from search.marks import pinned
from search.quarantine import set_aside
from search.record import RunRecord
from search.sections import KeepSpec
from search.trial import Trial

FILE = "weights.pt"
_log = logging.getLogger("search")


def discard(
    record: RunRecord,
    trials: Iterable[Trial],
    near: Iterable[int],
    keep: KeepSpec,
    front: Iterable[int] = (),
) -> None:
    """Delete what `keep` does not allow: first what is not near the front, then the oldest until it fits `max_gb`.

    The weights of the front, and of trials that a reader has pinned, stay and count, whatever the room.

    Args:
        near: the front and those who may yet be on it; `front`: who is on it now.
    """
    by_number = {trial.number: trial for trial in trials}
    try:
        safe = {origin(by_number[number]) for number in pinned(record.path) if number in by_number}
    except RunCorrupt as error:  # what cannot be read may pin anything: delete nothing
        _log.warning("no weights are deleted: %s", error)
        return
    wanted = {origin(by_number[number]) for number in near}
    held = [(n, path) for n in sorted(by_number) if n not in safe and (path := record.trial_dir(n) / FILE).is_file()]
    if keep.weights != "all":
        for number, path in held:
            if keep.weights == "none" or number not in wanted:
                discard_weights(path)
    safe |= {origin(by_number[number]) for number in front}
    rest = [(number in wanted, number, path) for number, path in held if number not in safe and path.is_file()]
    kept = [path for number in safe if (path := record.trial_dir(number) / FILE).is_file()]
    kept_bytes = sum(_bytes(path) for path in kept)
    if kept_bytes > keep.max_gb * 1e9:
        _log.warning("the weights of the front and the pinned trials alone are above keep.max_gb")
    _shrink([path for _, _, path in sorted(rest)], keep.max_gb * 1e9 - kept_bytes)


def check_weights(record: RunRecord, number: int) -> None:
    """Make sure that a trial's weights are those that were validated; trials of older runs do not say.

    Raises:
        RunCorrupt: they are not; they are set aside, and the error says how to make them again.
    """
    trial = record.read_trial(number)
    said = "" if trial is None or trial.measurement is None else trial.measurement.weights
    path = record.trial_dir(number) / FILE
    if not said or _sha256(path) == said:
        return
    aside = set_aside(path)
    raise RunCorrupt(
        f"the weights of trial {number} are not those that were measured; they are {aside.name} now",
        where=str(path),
        expected=f"the sha256 {said}",
        next_command=f"paretoprune finetune {record.path}:{number} makes them again from its plan",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quantised(path: Path) -> list[Path]:
    """What lies beside a checkpoint in reduced precision: weights_int8.onnx, weights_int8_openvino_model."""
    return sorted(path.parent.glob(f"{path.stem}_*"))


def discard_weights(path: Path) -> None:
    """Delete a checkpoint and what was made of it."""
    path.unlink(missing_ok=True)
    for made in quantised(path):
        if made.is_dir():
            shutil.rmtree(made)
        else:
            made.unlink()


def origin(trial: Trial) -> int:
    """The trial whose weights belong to this one: itself, or the one that it is a copy of."""
    if trial.exported_from is not None:
        return trial.exported_from
    return trial.number if trial.same_as is None else trial.same_as


def _bytes(path: Path) -> int:
    """Of a checkpoint and what was made of it."""
    return sum(size_bytes(one) for one in (path, *quantised(path)))


def _shrink(paths: list[Path], max_bytes: float) -> None:
    sizes = [_bytes(path) for path in paths]
    total = sum(sizes)
    for path, size in zip(paths, sizes, strict=True):
        if total <= max_bytes:
            return
        discard_weights(path)
        total -= size
        _log.warning("deleted %s: keep.max_gb is reached", path)
