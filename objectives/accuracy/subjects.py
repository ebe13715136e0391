"""Checks that a model and its data agree before validation.

Ultralytics' validator silently downloads missing data, skips the labels of surplus classes and mixes up reordered ones.
Here all of that is refused: data are never downloaded, and the `download:` script of a data YAML is never run.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from objectives.errors import AccuracyError
from objectives.ultralytics_door import family_of, is_ultralytics, load_module, quiet, twin_of


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Properties of a model that validation needs."""

    where: str
    task: str
    names: tuple[str, ...]
    single_cls: bool
    family: str = "yolo"
    """See `family_of`."""


def subject_of(model: nn.Module | Path | str) -> tuple[nn.Module | str, ModelFacts]:
    """Return the validator's input and its facts; a checkpoint is loaded for its task. Raises `AccuracyError`."""
    if isinstance(model, nn.Module):
        return model, _module_facts(model, type(model).__name__)
    path = Path(model)
    if not path.is_file():
        raise AccuracyError(f"There is no model at {path}. Expected an Ultralytics module, a .pt or an .onnx file.")
    if path.suffix == ".onnx":
        return str(path), _onnx_facts(path)
    if path.suffix != ".pt":
        raise AccuracyError(f"{path}: expected a .pt or .onnx file, found {path.suffix or 'no suffix'}.")
    try:
        module = load_module(path)
    except Exception as fault:
        raise AccuracyError(f"{path} could not be loaded as an Ultralytics checkpoint: {fault}") from fault
    return module, _module_facts(module, str(path))


def exported_subject(artefact: Path, model: Path) -> tuple[str, ModelFacts]:
    """Return the same for an exported file of any format, with the facts of its checkpoint. Raises `AccuracyError`."""
    if not artefact.exists():
        raise AccuracyError(f"There is no artefact at {artefact}.")
    return str(artefact), replace(subject_of(model)[1], where=str(artefact))


def _module_facts(model: nn.Module, where: str) -> ModelFacts:
    if not is_ultralytics(model):
        raise AccuracyError(
            f"{where} is not an Ultralytics model, so Ultralytics cannot validate it. "
            f"Measure a plain PyTorch model with a metric function of your own."
        )
    twin = model if getattr(model, "task", None) else twin_of(model)
    arguments = getattr(model, "args", {})
    single = arguments.get("single_cls") if isinstance(arguments, Mapping) else getattr(arguments, "single_cls", False)
    return ModelFacts(where, str(twin.task), _names(getattr(model, "names", {})), bool(single), family_of(model))


def _onnx_facts(path: Path) -> ModelFacts:
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False)
        notes = {entry.key: entry.value for entry in graph.metadata_props}
        return ModelFacts(str(path), notes["task"], _names(ast.literal_eval(notes["names"])), single_cls=False)
    except Exception as fault:
        raise AccuracyError(
            f"{path} is not an ONNX file that Ultralytics exported: its task and class names cannot be read "
            f"({fault}). "
            f"Export it with YOLO.export(format='onnx')."
        ) from fault


def _names(names: Mapping[int, str] | Sequence[str]) -> tuple[str, ...]:
    return tuple(str(names[i]) for i in sorted(names)) if isinstance(names, Mapping) else tuple(map(str, names))


def check_data(data: str | Path, split: str, facts: ModelFacts) -> None:
    """Refuse data that are missing, or whose classes are not the model's. Raises `AccuracyError`."""
    if facts.task == "classify":
        _check_folders(Path(data), split, facts)
        return
    from ultralytics.engine import validator

    from ultralytics_versions.parts import read_data

    readers: Any = validator  # by the readers of its validators: where those are replaced by safer ones, these are
    try:
        with quiet():
            found = read_data(readers.check_det_dataset, data, split)
    except Exception as fault:
        raise AccuracyError(f"Data {data}, split {split!r}, cannot be used: {str(fault).strip()}") from fault
    _check_names(data, _names(found["names"]), facts)


def _check_folders(data: Path, split: str, facts: ModelFacts) -> None:
    """Check classification data: a folder of splits, each with one folder per class in alphabetical order.

    As Ultralytics does, `val` is also looked for as `validation`, `valid` and `test`; `test` is nothing else.
    """
    from ultralytics.engine import validator

    readers: Any = validator
    if not (data / "train").is_dir():  # Ultralytics would copy the images to two folders
        raise AccuracyError(f"Data {data}, split {split!r}, cannot be used: expected the folder {data / 'train'}.")
    try:
        with quiet():
            place = readers.check_cls_dataset(str(data), split=split)[split]
    except (OSError, ValueError) as fault:
        raise AccuracyError(f"Data {data}, split {split!r}, cannot be used: {str(fault).strip()}") from fault
    if place is None or (split == "test" and place.name != split):  # whoever asks for test images does not want val
        raise AccuracyError(f"Data {data}, split {split!r}, cannot be used: expected the folder {data / split}.")
    folders = tuple(sorted(path.name for path in place.iterdir() if path.is_dir()))
    unknown = sorted(set(folders) - set(facts.names))
    if unknown and not facts.single_cls:
        raise AccuracyError(
            f"{facts.where} has the classes {_some(facts.names)}; {place} has folders of others: {_some(unknown)}. "
            f"Expected a folder per class of the model: give the data that it was trained on."
        )


def _check_names(data: str | Path, wanted: tuple[str, ...], facts: ModelFacts) -> None:
    if facts.single_cls:
        return
    if len(facts.names) != len(wanted):
        raise AccuracyError(
            f"{facts.where} has {len(facts.names)} classes, data {data} have {len(wanted)} "
            f"({_some(wanted)}). "
            f"Expected equal numbers: give the data that the model was trained on."
        )
    if facts.names != wanted and sorted(facts.names) == sorted(wanted):
        raise AccuracyError(
            f"{facts.where} and data {data} have the same classes in another order: {_some(facts.names)} "
            f"against "
            f"{_some(wanted)}. Bring the names in the data YAML into the model's order, and the labels with "
            f"them."
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
