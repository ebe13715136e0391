"""One part at a time: how much the outputs mind each dimension, measured once per study and cached in sensitivity/.

The curves (pruning.sensitivity) need no labels and no training: two re-calibrated forward passes over a few images for
each level of each dimension. They seed the search with *equally sensitive* candidates: for a tolerance, every dimension
gets the largest ratio that it bears alone. Uniform ratios, the usual baseline, prune what matters as hard as what does
not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pruning import ChannelGraph, Scores
from pruning.sensitivity import LEVELS, Curve, measure_sensitivity
from search.atomic import write_json
from search.evaluate.workload import calibration_batches
from search.space import Space
from search.trial import Candidate

TOLERANCES = (0.003, 0.01, 0.03, 0.1, 0.2, 0.35)
"""Divergence of the outputs allowed for each dimension; 1 is an output that has nothing to do with the base's."""

FILE = "curves.json"
_IMAGES, _BATCH = 64, 32


def tolerant(space: Space, curves: Mapping[str, Curve]) -> Iterator[Candidate]:
    """For each tolerance, the candidate whose every dimension has the largest ratio within it."""
    for tolerance in TOLERANCES:
        ratios = {d.name: min(max(curves[d.name].ratio_within(tolerance), d.low), d.high) for d in space.dimensions}
        yield Candidate(ratios, space.sizes[0], space.precisions[0])


def sensitivity_curves(
    model: Any,
    graph: ChannelGraph,
    space: Space,
    scores: Scores,
    *,
    data: str,
    imgsz: int,
    round_to: int,
    folder: Path,
    on_progress: Callable[[float], None] | None = None,
) -> dict[str, Curve]:
    """Dimension -> curve, read from `folder` if it was measured before, else measured and written there."""
    known = read_curves(folder)
    if known.keys() >= {d.name for d in space.dimensions}:
        return known
    task = str(getattr(model, "task", "detect"))
    batches = list(calibration_batches(data, imgsz, _IMAGES, _BATCH, task))
    levels = sorted({min(level, max(d.high for d in space.dimensions)) for level in LEVELS})
    parts = {d.name: d.groups for d in space.dimensions}
    curves = measure_sensitivity(
        model, graph, parts, batches, scores, levels=levels, round_to=round_to, on_progress=on_progress
    )
    rows = {name: {"ratios": curve.ratios, "divergences": curve.divergences} for name, curve in curves.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, {"format": 1, "curves": rows})
    return curves


def read_curves(folder: Path) -> dict[str, Curve]:
    """The cached curves; none when there is no such file."""
    path = folder / FILE
    if not path.is_file():
        return {}
    rows = json.loads(path.read_text())["curves"]
    return {name: Curve(tuple(row["ratios"]), tuple(row["divergences"])) for name, row in rows.items()}
