"""`paretoprune compare best.pt pruned.pt finetuned.pt data=data.yaml`: compare models with the first.

Parameters and MACs are counted on the network that the file holds, not read from its name or its plan; milliseconds are
measured interleaved, as by `bench`; accuracy and the number of objects found are those of the validation split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.held_folder import held_folder
from objectives.image_size import Size, sides
from search.commands.timing import bench as timed
from search.commands.timing.bench import Say
from search.commands.timing.models import Model
from search.config.overrides import check_sides, existing_data
from search.errors import ConfigError
from search.run_folder.artefact_files import size_bytes
from search.workers.run_isolated import run_isolated

EXPORTED = (".onnx", ".xml", ".engine", ".torchscript", ".mnn", ".tflite")
CONFIDENCE = 0.25
"""From here on a box counts as found: what `yolo predict` shows by default."""


@dataclass(frozen=True)
class Order:
    """Models to compare. `data`: the data set whose validation split is used, or None."""

    bench: timed.Order
    data: Path | None


@dataclass(frozen=True)
class Subject:
    """What the child process needs of a model. `like`: the checkpoint that an exported file was made from."""

    path: Path
    imgsz: Size
    like: Path | None = None


def order_of(words: Sequence[str]) -> Order:
    """Parse the models and keys of `bench`, and data=; the default is the data of the first model's run.

    Raises:
        ConfigError: as `bench`, and for a trial whose weights were not kept.
    """
    data = [word.removeprefix("data=") for word in words if word.startswith("data=")]
    order = timed.order_of([word for word in words if not word.startswith("data=")])
    for model in order.models:
        _path(model)
        check_sides(model.imgsz, "imgsz=")
    if data:
        return Order(order, existing_data(data[-1]))
    picked = order.models[0].picked
    return Order(order, None if picked is None else Path(picked.results.spec.data))


def compare(order: Order, say: Say = lambda what, left_s: None) -> list[dict[str, Any]]:
    """Return a row per model: model, params_m, macs_g, size_mb, latency_ms, ratio, fps, found, labels, figures.

    Figures that a file cannot provide are None: an exported one has no parameters to count.

    Raises:
        PreparationFailed: a model that cannot be read or validated. LatencyError: one that cannot be timed.
    """
    say("counting and validating", None)
    with held_folder("compare") as work:
        subjects = _subjects(order.bench.models)
        counted = run_isolated(judge_in_child, (subjects, order.data, work), work, log_stays=False)
    rows = timed.facts_of(order.bench, timed.bench(order.bench, say))
    return [_row(row, facts, order.bench.spec.batch) for row, facts in zip(rows, counted, strict=True)]


def _subjects(models: Sequence[Model]) -> list[Subject]:
    checkpoints = [_path(model) for model in models if not _is_exported(_path(model))]
    if not checkpoints:
        raise ConfigError("no checkpoint among the models", expected="the .pt that the files were exported from")
    like = {path: checkpoints[0] for path in map(_path, models) if _is_exported(path)}
    return [Subject(_path(model), model.imgsz, like.get(_path(model))) for model in models]


def _is_exported(path: Path) -> bool:
    return path.suffix in EXPORTED or path.is_dir()


def _path(model: Model) -> Path:
    if model.path is None:
        raise ConfigError(f"the weights of {model.name} were not kept", expected="keep.weights: all, or a .pt file")
    return model.path


def _row(row: dict[str, Any], facts: dict[str, Any], batch: int) -> dict[str, Any]:
    kept = ("latency_ms", "ratio", "interval", "flags", "imgsz", "runtime", "version", "threads", "device", "processor")
    speed = {"fps": 1000 * batch / row["latency_ms"]}
    return {"model": row["model"], **facts, **{key: row[key] for key in kept}, **speed}


def judge_in_child(subjects: Sequence[Subject], data: Path | None, work: Path) -> list[dict[str, Any]]:
    """Measure everything but latency, in a quiet child process.

    If an exported file is among the models, all are validated on square images, the only ones that it accepts.
    """
    square = any(subject.like is not None for subject in subjects)
    return [_judged(subject, data, square, work) for subject in subjects]


def _judged(subject: Subject, data: Path | None, square: bool, work: Path) -> dict[str, Any]:
    size = size_bytes(subject.path) / 1e6 if subject.path.exists() else None
    exported = subject.like is not None
    counts = {"params_m": None, "macs_g": None} if exported else _counts(subject)
    return {**counts, "size_mb": size, **_accuracy(subject, data, square, exported, work)}


def _counts(subject: Subject) -> dict[str, float]:
    from pruning import trace
    from pruning.checkpoints.checkpoint import count_parameters
    from search.evaluate.workload import example_input, load_model

    model = load_model(subject.path)
    cost = trace(model, example_input(model, subject.imgsz)).cost()
    return {"params_m": count_parameters(model) / 1e6, "macs_g": cost.macs / 1e9}


def _accuracy(subject: Subject, data: Path | None, square: bool, exported: bool, work: Path) -> dict[str, Any]:
    from objectives.accuracy.measure import measure_accuracy

    if data is None:
        return {"found": None, "labels": None, "figures": {}}
    how: dict[str, Any] = {"imgsz": subject.imgsz, "work_dir": work, "resamples": 2}
    if square:
        how |= {"batch": 1, "rect": False, "like": subject.like or subject.path}
    accuracy = measure_accuracy(subject.path, data, **how)
    found = None if exported else found_objects(subject.path, data, subject.imgsz)
    figures = {name: estimate.value for name, estimate in accuracy.figures.items()}
    return {"found": found, "labels": accuracy.labels, "figures": figures}


def found_objects(path: Path, data: Path, imgsz: Size) -> int | None:
    """Count boxes above CONFIDENCE on all validation images; None for a task without boxes."""
    from objectives.ultralytics_door import predictor_class, quiet
    from pruning.checkpoints.checkpoint import load_model
    from search.config.inputs.dataset import LabelRules, open_dataset

    model: Any = load_model(path)
    if getattr(model, "task", "detect") not in ("detect", "segment", "pose", "obb"):
        return None
    settings = {
        "imgsz": list(sides(imgsz)),
        "rect": isinstance(imgsz, int),
        "conf": CONFIDENCE,
        "device": "cpu",
        "verbose": False,
        "save": False,
        "mode": "predict",
    }
    with quiet():
        predictor = predictor_class(model)(overrides=settings)
        predictor.setup_model(model=model, verbose=False)
        images = open_dataset(data, LabelRules.of(model)).files("val")
        return sum(_count(found) for image in images for found in predictor(image, stream=True))


def _count(result: Any) -> int:
    boxes = result.obb if result.obb is not None else result.boxes
    return len(boxes)
