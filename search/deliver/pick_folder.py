"""The folder of a pick: picks/<budget>/{pick.json, model.pt}."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search.config.budgets import PICK_NAME
from search.errors import ConfigError, RunCorrupt
from search.results.snapshot_reader import id_of
from search.run_folder.atomic import read_mapping, write_atomic, write_json

_KEPT = ("model.pt", "model_card.md")
"""Of an earlier pick: the first is replaced whole, the second names its trial."""


def write_pick(
    run: Path,
    budget: str,
    trial: Mapping[str, Any],
    weights: Path,
    *,
    bounds: Mapping[str, float],
    sentence: str,
    artefact: Path | None = None,
) -> Path:
    """Write the pick of a budget (the trial's record and its weights) and return its folder.

    Other files of an earlier pick (`model_int8.onnx`) are removed if that was another trial; what `finetune` made stays
    (`PickedTrial.is_tuned` tells whose it is).

    Args:
        run: the run's folder.
        trial: the trial's row of a snapshot.
        weights: its checkpoint.
        artefact: its file in reduced precision, copied as model_int8.onnx or the like.
        bounds: the budget, a limit by figure.
        sentence: why this trial.

    Raises:
        ConfigError: a budget whose name cannot be a folder.
        RunCorrupt: the weights are gone.
    """
    folder = pick_folder(run, budget)
    if not weights.is_file():
        raise RunCorrupt(
            f"the weights of trial {trial['id']} are gone",
            where=str(weights),
            next_command="set keep.weights: all, or run the trial again with paretoprune finetune",
        )
    _remove_others(folder, trial)
    if artefact is not None:
        _copy(artefact, folder / artefact.name.replace(weights.stem, "model", 1))
    # The weights first: a pick.json beside them means that both are there.
    write_atomic(folder / "model.pt", weights.read_bytes())
    content = {"format": 1, "budget": budget, "bounds": dict(bounds), "sentence": sentence, "trial": dict(trial)}
    write_json(folder / "pick.json", content)
    return folder


def _remove_others(folder: Path, trial: Mapping[str, Any]) -> None:
    """Remove the models beside model.pt if they are of another trial than this one."""
    before = (read_mapping(folder / "pick.json") or {}).get("trial")
    if not isinstance(before, Mapping) or id_of({"number": "", **before}) == trial["id"]:
        return
    for path in folder.glob("model*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in _KEPT:
            path.unlink()


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or a folder for OpenVINO, replacing the target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def pick_folder(run: Path, budget: str) -> Path:
    """Return the folder of a budget's pick.

    Raises:
        ConfigError: a name that is not a plain folder name.
    """
    if not PICK_NAME.fullmatch(budget):
        raise ConfigError(
            f"the budget's name {budget!r} cannot be a folder",
            where="budgets",
            expected="letters, digits, dot, dash and underscore, at most 150",
        )
    return run / "picks" / budget
