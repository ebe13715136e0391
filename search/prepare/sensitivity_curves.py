"""Pruning sensitivity of each dimension and each block, measured once per study and cached in sensitivity/.

The curves (pruning.sensitivity) need no labels and no training: two forward passes over a few images for
each level of each dimension. They are the prices of allocation.py. Each curve is saved as soon as it is
measured, so that an interrupted study resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pruning.sensitivity import LEVELS, Curve, SensitivityProbe
from search.run_folder.atomic import write_json
from search.run_folder.quarantine import derived_json
from search.space import Space

FILE = "curves.json"


def sensitivity_curves(
    probe: SensitivityProbe,
    space: Space,
    folder: Path,
    on_progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Curve]:
    """Return dimension or block parameter -> curve, read from `folder` if measured before.

    A block's curve ends at ratio 1, where it is removed.
    """
    known = read_curves(folder)
    levels = sorted({min(level, max(d.high for d in space.dimensions)) for level in LEVELS})
    parts: dict[str, Callable[[], Curve]] = {d.name: partial(probe.curve, d.groups, levels) for d in space.dimensions}
    parts |= {block.parameter: partial(_removal, probe, block.path) for block in space.blocks}
    for number, (name, measure) in enumerate(parts.items()):
        if name not in known:
            known[name] = measure()
            write_curves(folder, known)
        on_progress((number + 1) / len(parts))
    return {name: known[name] for name in parts}


def _removal(probe: SensitivityProbe, path: str) -> Curve:
    return Curve.through([(1.0, probe.removal(path))])


def write_curves(folder: Path, curves: Mapping[str, Curve]) -> None:
    """Write all curves so far atomically."""
    rows = {name: {"ratios": curve.ratios, "divergences": curve.divergences} for name, curve in curves.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, {"format": 1, "curves": rows}, durable=False)


def read_curves(folder: Path) -> dict[str, Curve]:
    """Load the cached curves; none if the file is missing or damaged."""
    rows = derived_json(folder / FILE).get("curves", {})
    return {name: Curve(tuple(row["ratios"]), tuple(row["divergences"])) for name, row in rows.items()}
