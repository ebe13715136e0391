"""Verified export: every artefact is reloaded, compared with the model, validated and measured before it is delivered.

An export that "succeeded" proves little (INT8 can lose all accuracy, see ultralytics#23987), so each artefact passes
the raw outputs (`parity.py`), a second validation on the exported file and, if asked, the clock. Work happens in a
folder inside the target that disappears; artefacts are renamed into place at the end.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from objectives.latency import compare
from objectives.runtimes import open_runner
from objectives.ultralytics_door import load_module, quiet
from search.atomic import write_json
from search.deliver.artefact import digest, size_bytes
from search.deliver.dataset import check_classes, read_dataset
from search.deliver.errors import CheckFailed, ExportFailed
from search.deliver.export_report import ArtefactCheck, ExportReport, Parity
from search.deliver.formats import PRECISIONS, Format, checked_formats
from search.deliver.parity import (
    LIMIT,
    Array,
    artefact_outputs,
    compare_outputs,
    load_images,
    model_outputs,
)
from search.deliver.validation import validate
from search.errors import ConfigError

PARITY_IMAGES = 4
_METRICS = ("map50_95", "top1")
_PACKAGES = ("torch", "ultralytics", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True)
class _Order:
    """What was asked for, and the model's own figures that artefacts are held against."""

    model_path: Path
    data: Path
    imgsz: int
    device: str
    quantize: int | None
    max_drop: float | None
    latency: Mapping[str, Any] | None
    task: str
    images: Sequence[Array]
    inputs: str
    outputs: list[list[Array]]
    accuracy: Mapping[str, float]
    metric: str


def export_model(
    model_path: Path,
    out_dir: Path,
    formats: Sequence[str],
    *,
    data: Path,
    imgsz: int,
    device: str = "cpu",
    quantize: int | None = None,
    max_drop: float | None = None,
    latency: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Export a checkpoint to `out_dir`, verify each artefact, and write export.json.

    Args:
        model_path: an Ultralytics checkpoint, pruned or not.
        formats: names of `formats.FORMATS`.
        data: data set whose validation split is used (also to calibrate INT8).
        quantize: 8, 16 or 32 bits; None is 32.
        max_drop: largest allowed loss of the metric, as a fraction (0.01 is one point).
        latency: `threads`, `device` and `cap_s` to time with (further keys of a study's latency block are
            ignored); None: do not time. The ratio is to the same model in PyTorch.

    Raises:
        ConfigError, BackendMissing: before any work (format, precision, packages, model, data set).
        AccuracyError, LatencyError: the model itself cannot be validated or timed.
        ExportFailed: an export stopped or cannot be run; the folder is as it was.
        CheckFailed: an artefact's outputs or accuracy are not the model's. It is not delivered; the artefacts that
            passed are, and export.json holds the figures of all.
    """
    wanted = checked_formats(formats, quantize)
    if not model_path.is_file():
        raise ConfigError(f"there is no model at {model_path}", expected="an Ultralytics checkpoint (.pt)")
    order = _prepare(model_path, data, imgsz, device, quantize, max_drop, latency)
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=out_dir) as name:
        made = [_make(order, form, Path(name)) for form in wanted]
        for path, check in made:
            if check.passed:
                _deliver(path, out_dir / path.name)
    report = _report(order, tuple(check for _, check in made))
    write_json(out_dir / "export.json", report.to_json())
    _fail_loudly(report, out_dir)
    return report


def _prepare(
    model_path: Path,
    data: Path,
    imgsz: int,
    device: str,
    quantize: int | None,
    max_drop: float | None,
    latency: Mapping[str, Any] | None,
) -> _Order:
    model: Any = load_module(model_path)
    channels = int(model.yaml.get("channels", 3))
    dataset = read_dataset(data)
    check_classes(model, dataset, data)
    images, inputs = load_images(dataset.images, imgsz, PARITY_IMAGES, channels)
    task = str(model.task)
    accuracy = validate(model_path, data, imgsz=imgsz, device=device, task=task)
    metric = next((name for name in _METRICS if name in accuracy), next(iter(accuracy)))
    outputs = model_outputs(model, images)
    asked = (model_path, data, imgsz, device, quantize, max_drop, latency)
    return _Order(*asked, task, images, inputs, outputs, accuracy, metric)


def _make(order: _Order, form: Format, folder: Path) -> tuple[Path, ArtefactCheck]:
    """Export one format below `folder` and check it there."""
    started = time.perf_counter()
    place = folder / form.name
    place.mkdir()
    path = _named(_export(order, form, place), order, form)
    parity = compare_outputs(order.outputs, artefact_outputs(path, form.name, order.images), order.inputs)
    accuracy = validate(path, order.data, imgsz=order.imgsz, device=order.device, task=order.task)
    drop = order.accuracy[order.metric] - accuracy[order.metric]
    check = ArtefactCheck(
        format=form.name,
        precision=_precision(order.quantize),
        path=path.name,
        size_bytes=size_bytes(path),
        digest=digest(path),
        seconds=round(time.perf_counter() - started, 3),
        parity=parity,
        accuracy=accuracy,
        drop=drop,
        latency=_latency(order, form, path),
        faults=tuple(_faults(order, parity, drop)),
    )
    return path, check


def _export(order: _Order, form: Format, place: Path) -> Path:
    from ultralytics.models import YOLO

    # Ultralytics writes beside the checkpoint, so it gets one of its own.
    source = Path(shutil.copyfile(order.model_path, place / f"{order.model_path.stem}.pt"))
    options: dict[str, Any] = dict(form.options)
    if order.quantize is not None:
        options["quantize"] = order.quantize
    if order.quantize == 8 and form.calibrates:
        options["data"] = str(order.data)
    try:
        with quiet(), _silent_root():
            made = YOLO(source).export(format=form.name, imgsz=order.imgsz, device=order.device, batch=1, **options)
    except Exception as error:
        raise ExportFailed(f"{form.name}: the export stopped: {error}", where=str(order.model_path)) from error
    return Path(made)


@contextmanager
def _silent_root() -> Iterator[None]:
    """ONNX Runtime's quantizer warns once a layer through the root logger, and gives that a handler that stays."""
    level, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
        logging.root.handlers[:] = handlers


def _named(path: Path, order: _Order, form: Format) -> Path:
    """Ultralytics calls an FP16 file as an FP32 one; the name says what it is."""
    tag = "" if order.quantize in (None, 32) else f"_{_precision(order.quantize)}"
    wanted = path.with_name(f"{order.model_path.stem}{tag}{form.suffix}")
    if wanted != path:
        path.rename(wanted)
    return wanted


def _precision(quantize: int | None) -> str:
    return PRECISIONS[quantize or 32]


def _latency(order: _Order, form: Format, path: Path) -> dict[str, Any] | None:
    if order.latency is None:
        return None
    device, threads = str(order.latency.get("device", "cpu")), int(order.latency.get("threads", 1))
    settings: dict[str, Any] = {"imgsz": order.imgsz, "device": device, "threads": threads, "batch": 1}
    runner = open_runner(_timeable(path, form), runtime=form.runtime, **settings)
    reference = open_runner(order.model_path, runtime="torch", **settings)
    found = compare(runner, reference, cap_s=float(order.latency.get("cap_s", 6.0)))
    return {
        **runner.describe(),
        "p50_ms": found.p50_ms,
        "p90_ms": found.p90_ms,
        "torch_ms": found.reference_ms,
        "ratio": {"value": found.ratio.value, "low": found.ratio.low, "high": found.ratio.high},
        "flags": list(found.flags),
    }


def _timeable(path: Path, form: Format) -> Any:
    if form.name != "torchscript":
        return path
    import torch

    with quiet():
        return torch.jit.load(str(path), map_location="cpu")


def _faults(order: _Order, parity: Parity, drop: float) -> Iterator[str]:
    if order.quantize in (None, 32) and parity.relative > LIMIT:
        yield f"outputs differ by {parity.relative:.2g} of their range, expected at most {LIMIT:g}"
    if order.max_drop is not None and drop > order.max_drop:
        yield (
            f"{order.metric} fell by {drop:.4f} (from {order.accuracy[order.metric]:.4f}), "
            f"expected at most {order.max_drop:g}"
        )


def _deliver(made: Path, place: Path) -> None:
    """Put an artefact in its place; a folder cannot be replaced in one step, so the old one is moved aside first."""
    if place.is_dir():
        shutil.move(place, made.with_name(f"{made.name}.old"))
    os.replace(made, place)


def _report(order: _Order, checks: tuple[ArtefactCheck, ...]) -> ExportReport:
    return ExportReport(
        model=order.model_path.name,
        model_digest=digest(order.model_path),
        size_bytes=size_bytes(order.model_path),
        data=str(order.data),
        imgsz=order.imgsz,
        metric=order.metric,
        accuracy=order.accuracy,
        max_drop=order.max_drop,
        versions=dict(_versions()),
        artefacts=checks,
    )


def _fail_loudly(report: ExportReport, out_dir: Path) -> None:
    failed = [check for check in report.artefacts if not check.passed]
    if failed:
        rows = [f"{check.format} {check.precision}: {'; '.join(check.faults)}" for check in failed]
        raise CheckFailed(
            "\n".join(["not delivered:", *rows]),
            where=str(out_dir / "export.json"),
            next_command="export with quantize=16 or 32, or allow more with --max-drop",
        )


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
