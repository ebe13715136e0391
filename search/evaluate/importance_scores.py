"""Importance scores of every channel by the study's criterion, computed once and cached in base/."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from objectives.image_size import Size
from pruning import ChannelGraph, Scores
from pruning.data_importance import labelled_batches, score_on_batches
from pruning.importance import DATA_CRITERIA
from search.run_folder.quarantine import set_aside


def scores_of(
    model: Any, graph: ChannelGraph, criterion: str, *, data: str, imgsz: Size, folder: Path | None = None
) -> Scores:
    """Compute scores by a data-free criterion, or by one measured on training images (taylor, fisher, activation).

    Measured scores are cached in `folder`. Raises PlanError.
    """
    if criterion not in DATA_CRITERIA:
        return graph.score(model, criterion)
    path = folder / f"scores-{criterion}.npz" if folder is not None else None
    stored = None if path is None else _stored(path)
    if stored is not None:
        return Scores(criterion, stored)
    scores = score_on_batches(graph.table, model, criterion, labelled_batches(model, data, imgsz))
    if path is not None:
        part = path.with_suffix(".part.npz")
        np.savez(part, allow_pickle=False, **dict(scores.by_group))
        part.replace(path)
    return scores


def _stored(path: Path) -> dict[str, Any] | None:
    """Load the cached scores; None if missing or damaged, in which case the file is quarantined."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        set_aside(path)
        return None
