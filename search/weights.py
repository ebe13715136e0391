"""Which trials keep their weights on disk."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from search.deliver.artefact import size_bytes
from search.errors import RunCorrupt
from search.marks import pinned
from search.record import RunRecord
from search.sections import KeepSpec
from search.trial import Trial

FILE = "weights.pt"
_log = logging.getLogger("search")


def discard(record: RunRecord, trials: Iterable[Trial], front: Iterable[int], keep: KeepSpec) -> None:
    """Delete what `keep` does not allow: first what is off the front, then the oldest until it fits `max_gb`.

    The weights of a trial that a reader has pinned stay, and count.
    """
    by_number = {trial.number: trial for trial in trials}
    try:
        safe = {origin(by_number[number]) for number in pinned(record.path) if number in by_number}
    except RunCorrupt as error:  # what cannot be read may pin anything: delete nothing
        _log.warning("no weights are deleted: %s", error)
        return
    wanted = {origin(by_number[number]) for number in front}
    held = [(n, path) for n in sorted(by_number) if n not in safe and (path := record.trial_dir(n) / FILE).is_file()]
    kept_bytes = sum(path.stat().st_size for n in safe if (path := record.trial_dir(n) / FILE).is_file())
    if keep.weights != "all":
        for number, path in held:
            if keep.weights == "none" or number not in wanted:
                discard_weights(path)
    rest = [(number in wanted, number, path) for number, path in held if path.is_file()]
    _shrink([path for _, _, path in sorted(rest)], keep.max_gb * 1e9 - kept_bytes)


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


def _shrink(paths: list[Path], max_bytes: float) -> None:
    sizes = [sum(size_bytes(one) for one in (path, *quantised(path))) for path in paths]
    total = sum(sizes)
    for path, size in zip(paths, sizes, strict=True):
        if total <= max_bytes:
            return
        discard_weights(path)
        total -= size
        _log.warning("deleted %s: keep.max_gb is reached", path)
