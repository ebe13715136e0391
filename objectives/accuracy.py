"""The accuracy of a model on a split, by Ultralytics' own validator, with the error that few images leave.

What is pinned, so that base, trials and exported files stand on the same ground whatever the defaults become:
float32, rectangular batches as in `yolo val` (Ultralytics turns them off by itself for files of fixed shape),
one metric (COCO data would switch to pycocotools for the unpruned figure only), Ultralytics' confidence and
IoU thresholds, no plots, no files left behind. Data are never downloaded, and the `download:` script of a
data YAML is never run.

The interval comes from resampling validation images (`bootstrap`). It says how far the figure would move with
other images of the same kind. Two models measured on the *same* images share most of that: their difference
is better known than the two intervals suggest.
"""

from __future__ import annotations

import ast
import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import nn

from objectives.bootstrap import ImageStats, resample_weights, resampled_figures
from objectives.errors import AccuracyError
from objectives.objective import Estimate
from objectives.ultralytics_door import is_ultralytics, load_module, quiet, twin_of


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The figures of one model on one split, as fractions."""

    figures: Mapping[str, Estimate]
    """By objective name, with 95 % intervals."""
    per_class: Mapping[str, float]
    """AP50-95 of each class that has labels in the split, by class name."""
    images: int
    labels: int
    resamples: int


@dataclass(frozen=True, slots=True)
class _Task:
    """How one Ultralytics task is validated: a new task is one entry in `TASKS`."""

    validator: str
    """`module:Class`."""
    read: Callable[[Any, Mapping[str, list[Any]], int, int], Accuracy]
    """From the validator when done, its per-image statistics, resamples and seed."""


def measure_accuracy(
    model: nn.Module | Path | str,
    data: str | Path,
    *,
    imgsz: int,
    device: str = "cpu",
    batch: int = 32,
    split: str = "val",
    work_dir: Path | None = None,
    resamples: int = 100,
    seed: int = 0,
) -> Accuracy:
    """Validate `model` on a split of `data`.

    `model` is an Ultralytics module, pruned or not (it is copied; neither fused nor changed nor rebuilt from
    its YAML), or a file: `.pt`, `.onnx`. `data` is a data YAML, `imgsz` in pixels. Temporary files go below
    `work_dir` and are removed. The same call gives the same figures: `seed` draws the resamples.

    Raises `AccuracyError`: not an Ultralytics model, a task without an entry, data that are missing or
    unreadable, an empty or unlabelled split, classes that do not match.
    """
    subject, facts = _subject(model)
    task = _task(facts.task)
    _check_data(data, split, facts)
    with quiet(), tempfile.TemporaryDirectory(dir=_made(work_dir), prefix="accuracy-") as folder:
        validator = _validator(task, Path(folder))
        done, stats = _validate(validator, subject, _arguments(facts, data, imgsz, device, batch, split), Path(folder))
    _check_counts(done, data, split)
    return task.read(done, stats, resamples, seed)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What must be known of a model before it can be validated."""

    where: str
    task: str
    names: tuple[str, ...]
    single_cls: bool


def _subject(model: nn.Module | Path | str) -> tuple[nn.Module | str, _Facts]:
    """What the validator is given, and its facts. A checkpoint is loaded here: its task is inside."""
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


def _module_facts(model: nn.Module, where: str) -> _Facts:
    if not is_ultralytics(model):
        raise AccuracyError(
            f"{where} is not an Ultralytics model, so Ultralytics cannot validate it. "
            f"Measure a plain PyTorch model with a metric function of your own."
        )
    twin = model if getattr(model, "task", None) else twin_of(model)
    arguments = getattr(model, "args", {})
    single = arguments.get("single_cls") if isinstance(arguments, Mapping) else getattr(arguments, "single_cls", False)
    return _Facts(where, str(twin.task), _names(getattr(model, "names", {})), bool(single))


def _onnx_facts(path: Path) -> _Facts:
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False)
        notes = {entry.key: entry.value for entry in graph.metadata_props}
        return _Facts(str(path), notes["task"], _names(ast.literal_eval(notes["names"])), single_cls=False)
    except Exception as fault:
        raise AccuracyError(
            f"{path} is not an ONNX file that Ultralytics exported: its task and class names cannot be read "
            f"({fault}). "
            f"Export it with YOLO.export(format='onnx')."
        ) from fault


def _names(names: Mapping[int, str] | Sequence[str]) -> tuple[str, ...]:
    return tuple(str(names[i]) for i in sorted(names)) if isinstance(names, Mapping) else tuple(map(str, names))


def _task(name: str) -> _Task:
    if name in TASKS:
        return TASKS[name]
    raise AccuracyError(f"The accuracy of task {name!r} cannot be measured yet. Tasks that can: {', '.join(TASKS)}.")


def _check_data(data: str | Path, split: str, facts: _Facts) -> None:
    """Before the validator looks: it would download, skip labels of surplus classes, and mix up reordered
    ones."""
    from ultralytics.data.utils import check_det_dataset

    try:
        with quiet():
            found = check_det_dataset(str(data), autodownload=False, split=split)
    except Exception as fault:
        raise AccuracyError(f"Data {data}, split {split!r}, cannot be used: {str(fault).strip()}") from fault
    wanted = _names(found["names"])
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


def _made(folder: Path | None) -> Path | None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _validator(task: _Task, folder: Path) -> Callable[..., Any]:
    module, name = task.validator.split(":")
    kind = getattr(importlib.import_module(module), name)

    def make(arguments: Mapping[str, Any]) -> Any:
        return kind(args=dict(arguments), save_dir=folder)

    return make


def _arguments(facts: _Facts, data: str | Path, imgsz: int, device: str, batch: int, split: str) -> Mapping[str, Any]:
    return {
        "task": facts.task,
        "mode": "val",
        "data": str(data),
        "imgsz": imgsz,
        "device": device,
        "batch": batch,
        "split": split,
        "single_cls": facts.single_cls,
        "quantize": None,  # float32 for modules; a file keeps its own precision
        "rect": True,
        "val": False,  # with True, COCO data switch to pycocotools
        "plots": False,
        "save_json": False,
        "save_txt": False,
        "verbose": False,
    }


def _validate(
    make: Callable[..., Any], subject: nn.Module | str, arguments: Mapping[str, Any], folder: Path
) -> tuple[Any, Mapping[str, list[Any]]]:
    """Run the validator; also its per-image statistics, which it forgets at the end."""
    stats: dict[str, list[Any]] = {}

    def keep(validator: Any) -> None:
        stats.update({key: list(images) for key, images in validator.metrics.stats.items()})

    try:
        validator = make(arguments)
        validator.add_callback("on_val_batch_end", keep)
        validator(model=subject)
    except Exception as fault:
        raise AccuracyError(
            f"Ultralytics' validator failed on split {arguments['split']!r} of {arguments['data']}: {fault}"
        ) from fault
    return validator, stats


def _check_counts(validator: Any, data: str | Path, split: str) -> None:
    if not validator.seen:
        raise AccuracyError(f"Split {split!r} of {data} has no images. Check the path in the data YAML.")
    if not int(validator.metrics.nt_per_class.sum()):
        raise AccuracyError(
            f"None of the {validator.seen} images in split {split!r} of {data} has a label, so there is no "
            f"accuracy to "
            f"measure. Expected label files in the folder 'labels' beside 'images'."
        )


def _read_detection(validator: Any, stats: Mapping[str, list[Any]], resamples: int, seed: int) -> Accuracy:
    box = validator.metrics.box
    images = ImageStats.collect(stats["tp"], stats["conf"], stats["pred_cls"], stats["target_cls"])
    weights = resample_weights(images.images, images.cells, resamples=resamples, seed=seed)
    drawn = resampled_figures(images, weights)
    figures = {
        name: _estimate(value, getattr(drawn, name))
        for name, value in (
            ("map50_95", box.map),
            ("map50", box.map50),
            ("precision", box.mp),
            ("recall", box.mr),
        )
    }
    per_class = {str(validator.names[c]): float(ap) for c, ap in zip(box.ap_class_index, box.ap, strict=True)}
    return Accuracy(figures, per_class, int(validator.seen), len(images.target_cls), len(weights))


def _estimate(value: float, resampled: Any) -> Estimate:
    """The validator's figure with the normal interval of the bootstrap's standard error.

    Not the percentile interval: drawing images twice makes mAP's ranking easier, so resampled figures lie
    around a slightly different centre (Efron and Tibshirani 1993, section 10.2); their spread is what is
    wanted.
    """
    return Estimate.normal(float(value), float(np.std(resampled, ddof=1)), within=(0.0, 1.0))


TASKS: Mapping[str, _Task] = MappingProxyType(
    {"detect": _Task("ultralytics.models.yolo.detect:DetectionValidator", _read_detection)}
)
