"""Weight retention: which trials keep their weights on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from search.config.sections import KeepSpec
from search.errors import RunCorrupt
from search.run_folder.annotations import pinned
from search.run_folder.record import RunRecord
from search.run_folder.weights import FILE, _bytes, discard_weights, origin
from search.trial import PointId, Trial

_log = logging.getLogger("search")


def discard(
    record: RunRecord,
    trials: Iterable[Trial],
    near: Iterable[PointId],
    keep: KeepSpec,
    front: Iterable[PointId] = (),
) -> None:
    """Delete weights that `keep` does not allow: first those far from the front, then the oldest until `max_gb` holds.

    The weights of the front and of pinned trials always stay, and count towards the limit.

    Args:
        near: trials that are on the front or may still reach it; `front`: those on it now, and those that a trial
            continues.
    """
    by_id = {trial.id: trial for trial in trials}
    try:
        safe = {origin(by_id[point]) for point in pinned(record.path) if point in by_id}
    except RunCorrupt as error:  # what cannot be read may pin anything: delete nothing
        _log.warning("no weights are deleted: %s", error)
        return
    wanted = {origin(by_id[point]) for point in near}
    numbers = sorted({point.trial for point in by_id} - safe)
    held = [(number, path) for number in numbers if (path := record.trial_dir(number) / FILE).is_file()]
    if keep.weights != "all":
        for number, path in held:
            if keep.weights == "none" or number not in wanted:
                discard_weights(path)
    safe |= {origin(by_id[point]) for point in front}
    rest = [(number in wanted, number, path) for number, path in held if number not in safe and path.is_file()]
    kept = [path for number in safe if (path := record.trial_dir(number) / FILE).is_file()]
    kept_bytes = sum(_bytes(path) for path in kept)
    if kept_bytes > keep.max_gb * 1e9:
        _log.warning("the weights of the front and the pinned trials alone are above keep.max_gb")
    _shrink([path for _, _, path in sorted(rest)], keep.max_gb * 1e9 - kept_bytes)


def _shrink(paths: list[Path], max_bytes: float) -> None:
    sizes = [_bytes(path) for path in paths]
    total = sum(sizes)
    for path, size in zip(paths, sizes, strict=True):
        if total <= max_bytes:
            return
        discard_weights(path)
        total -= size
        _log.warning("deleted %s: keep.max_gb is reached", path)
