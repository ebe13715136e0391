"""Verified export: every artefact is reloaded, compared, validated and timed, and its memory measured, before delivery.

An export that "succeeded" proves little (INT8 can lose all accuracy, see ultralytics#23987), so each artefact passes
comparison of raw outputs (`parity.py`), a second validation, timing (`artefact_latency.py`) and a measurement of memory
(`objectives.resources.peak_memory`). Work happens in a temporary folder inside the target; artefacts are renamed into
place at the end. Artefacts that fail are not delivered; the others are.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from objectives.accuracy.measure import Accuracy
from objectives.errors import AccuracyError, BackendMissing, LatencyError
from objectives.image_size import Size, sides
from objectives.objective import MAIN_FIGURES
from objectives.resources.peak_memory import peak_memory
from objectives.runtimes.names import is_command
from objectives.runtimes.torch_runner import input_channels
from objectives.ultralytics_door import load_module, stride_of
from pruning.errors import first_line
from search.config.devices import check_device
from search.config.inputs.dataset import LabelRules, check_classes, check_images, open_dataset
from search.config.inputs.user_modules import declared, use
from search.config.sections import LatencySpec
from search.deliver.artefact_latency import time_artefact
from search.errors import ConfigError
from search.export.artefact_accuracy import validate, values
from search.export.errors import CheckFailed, DeliveryError, ExportFailed
from search.export.formats import Format, Target, check_graph, checked_targets
from search.export.graph_options import PLAIN, GraphOptions
from search.export.object_parity import compare_objects
from search.export.parity import (
    Array,
    artefact_outputs,
    batches,
    compare_outputs,
    load_images,
    model_outputs,
    parity_fault,
)
from search.export.report import ArtefactCheck, ExportReport, Parity
from search.export.ultralytics_export import make_artefact
from search.run_folder.artefact_files import digest, size_bytes
from search.run_folder.atomic import write_json

PARITY_IMAGES = 4
_BOARDS = ("ai-edge-litert", "litert-torch", "executorch")
_PACKAGES = (
    "torch",
    "ultralytics",
    "onnx",
    "onnxruntime",
    "openvino",
    "nncf",
    "tensorrt",
    "ncnn",
    "pnnx",
    "MNN",
    *_BOARDS,
)
_Found = TypeVar("_Found")


@dataclass(frozen=True)
class _Order:
    """Arguments of an export, and the model's own figures that artefacts are compared with."""

    model: Path
    base: Path
    data: Path
    imgsz: Size
    device: str
    max_drop: float | None
    latency: LatencySpec | None
    ready: Mapping[str, Path]
    images: Sequence[Array]
    inputs: str
    outputs: list[list[Array]]
    accuracy: Accuracy
    metric: str
    graph: GraphOptions
    network: Any
    references: dict[str, Path] = field(default_factory=dict)
    """The base's float32 file by format, with the same options, made when it is first needed."""


def export_model(
    model_path: Path,
    out_dir: Path,
    formats: Sequence[str],
    *,
    data: Path,
    imgsz: Size,
    device: str = "cpu",
    quantize: object = None,
    max_drop: float | None = None,
    latency: LatencySpec | None = None,
    base: Path | None = None,
    ready: Mapping[str, Path] | None = None,
    graph: GraphOptions = PLAIN,
) -> ExportReport:
    """Export a checkpoint to `out_dir` in every format and precision, verify each artefact, and write export.json.

    Args:
        model_path: an Ultralytics checkpoint, pruned or not.
        formats: names of `formats.FORMATS`.
        data: its validation split is used for accuracy, its training images to calibrate INT8.
        quantize: 8, 16 or 32 bits, or several of them; None is 32.
        max_drop: largest allowed loss of the metric, as a fraction (0.01 is one point).
        latency: threads, device and seconds to time with, on the runtime of each format; None: do not time.
        base: the checkpoint whose float32 file is the reference of latencies; None: the model itself.
        ready: label ("onnx int8") -> an existing artefact, which is verified instead of exporting it again.
        graph: how many images the graphs take, and whether they suppress by themselves.

    Raises:
        ConfigError, BackendMissing, DeviceMissing: before any work (format, precision, packages, model, data set).
        AccuracyError: the model itself cannot be validated.
        ExportFailed: an export stopped or cannot be run. CheckFailed: an artefact's outputs or accuracy differ too
            much. Either carries the report; the others are delivered, and export.json holds the figures of all.
    """
    targets, notes = checked_targets(formats, quantize, device=device, graph=graph)
    check_device(device)
    for path in (model_path, base or model_path):
        if not path.is_file():
            raise ConfigError(f"there is no model at {path}", expected="an Ultralytics checkpoint (.pt)")
    use(declared())
    order = _prepare(model_path, base or model_path, data, imgsz, device, max_drop, latency, ready or {}, graph)
    check_graph(targets, str(order.network.task))
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=out_dir) as name:
        checks = tuple(_delivered(order, target, Path(name), out_dir) for target in targets)
    report = replace(_report(order, checks), notes=notes)
    written = report.with_earlier(_read(out_dir / "export.json"), out_dir)
    write_json(out_dir / "export.json", written.to_json())
    _fail_loudly(report, written, out_dir)
    return written


def _prepare(
    model_path: Path,
    base: Path,
    data: Path,
    imgsz: Size,
    device: str,
    max_drop: float | None,
    latency: LatencySpec | None,
    ready: Mapping[str, Path],
    graph: GraphOptions,
) -> _Order:
    model: Any = load_module(model_path)
    dataset = open_dataset(data, LabelRules.of(model))
    check_classes(model, dataset)
    check_images(dataset, ("val",))
    files = [Path(file) for file in dataset.files("val")]
    single, inputs = load_images(files, imgsz, PARITY_IMAGES, input_channels(model))
    images = batches(single, graph, stride_of(model))
    accuracy = validate(model_path, model_path, data, imgsz=imgsz, device=device, conf=_threshold(graph))
    asked = (model_path, base, data, imgsz, device, max_drop, latency, ready)
    metric = MAIN_FIGURES[str(model.task)]
    return _Order(*asked, images, inputs, model_outputs(model, images), accuracy, metric, graph, model)


def _threshold(graph: GraphOptions) -> float | None:
    """Return the score below which a graph gives no objects, so that the checkpoint is judged without these, too."""
    return graph.conf if graph.nms else None


def _delivered(order: _Order, target: Target, work: Path, out_dir: Path) -> ArtefactCheck:
    """Make, check and, if it passed, deliver one artefact."""
    began = time.perf_counter()
    empty = ArtefactCheck(target.form.name, target.precision, graph=target.graph.label)
    try:
        path = _made(order, target, work / target.label.replace(" ", "-"))
        check = _checked(order, target, path, replace(empty, path=path.name), work)
    except ExportFailed as error:
        return replace(empty, faults=(error.what,))
    if check.passed:
        _deliver(path, out_dir / path.name)
    return replace(check, seconds=round(time.perf_counter() - began, 3))


def _made(order: _Order, target: Target, place: Path) -> Path:
    ready = order.ready.get(target.label)
    if ready is not None:
        place.mkdir()
        path = place / target.file_name(order.model.stem)
        (shutil.copytree if ready.is_dir() else shutil.copyfile)(ready, path)
        return path
    return make_artefact(order.model, target, place, data=order.data, imgsz=order.imgsz, device=order.device)


def _checked(order: _Order, target: Target, path: Path, empty: ArtefactCheck, work: Path) -> ArtefactCheck:
    form, spec = target.form, order.latency
    if form.runs_on:
        return _passed_on(order, form, path, empty, work)
    unchecked: list[str] = []
    parity = _compared(order, artefact_outputs(path, form.name, order.images))
    keys: dict[str, Any] = {"imgsz": order.imgsz, "device": order.device, "conf": _threshold(order.graph)}
    accuracy = _tried("accuracy", unchecked, lambda: validate(path, order.model, order.data, **keys))
    latency, threads = None, 1
    if spec is not None:
        threads = spec.threads
        latency = _tried("latency", unchecked, lambda: _timed(order, form, path, spec, work))
    memory = _tried("memory", unchecked, lambda: peak_memory(path, form.name, order.images[0].shape, threads))
    figures = {} if accuracy is None else values(accuracy)
    drop = values(order.accuracy)[order.metric] - figures[order.metric] if figures else None
    check = replace(
        empty,
        size_bytes=size_bytes(path),
        digest=digest(path),
        parity=parity,
        accuracy=figures,
        per_class={} if accuracy is None else accuracy.per_class,
        drop=drop,
        latency=latency,
        memory=memory,
        unchecked=tuple(unchecked),
    )
    return replace(check, faults=tuple(_faults(order, check, parity)))


def _compared(order: _Order, found: list[list[Array]]) -> Parity:
    if not order.graph.nms:
        return compare_outputs(order.outputs, found, order.inputs)
    return compare_objects(order.network, order.outputs, found, order.graph, max(sides(order.imgsz)), order.inputs)


def _passed_on(order: _Order, form: Format, path: Path, empty: ArtefactCheck, work: Path) -> ArtefactCheck:
    """Weigh a file that only another device runs; a `command:` that reaches the device times it."""
    unchecked = [f"outputs, accuracy and memory: not checked here, it runs on {form.runs_on}"]
    spec, latency = order.latency, None
    if spec is not None and is_command(spec.runtime):
        latency = _tried("latency", unchecked, lambda: _timed(order, form, path, spec, work))
    elif spec is not None:
        unchecked.append("latency: not measured here; latency.runtime 'command:PROGRAM' of a study times it there")
    check = replace(
        empty, size_bytes=size_bytes(path), digest=digest(path), latency=latency, unchecked=tuple(unchecked)
    )
    return replace(check, faults=tuple(_faults(order, check, None)))


def _tried(what: str, unchecked: list[str], measure: Callable[[], _Found]) -> _Found | None:
    """Return the figure, or None if this machine cannot measure it; the reason is added to `unchecked`."""
    try:
        return measure()
    except (AccuracyError, LatencyError, BackendMissing, ExportFailed) as error:
        unchecked.append(f"{what}: {first_line(error)}")
        return None


def _timed(order: _Order, form: Format, path: Path, spec: LatencySpec, work: Path) -> dict[str, Any]:
    from search.evaluate.timing.latency import lock_path
    from search.evaluate.timing.measurement_lock import MeasurementLock

    if form.name not in order.references:
        place = work / f"reference-{form.name}"
        keys: dict[str, Any] = {"data": order.data, "imgsz": order.imgsz, "device": order.device}
        bits = 32 if 32 in form.precisions else next(iter(form.precisions))
        order.references[form.name] = make_artefact(order.base, Target(form, bits, order.graph), place, **keys)
    reference, batch = order.references[form.name], order.graph.batch
    with MeasurementLock(lock_path()) as turns:
        return time_artefact(path, form, reference, order.model, order.imgsz, spec, turns, batch)


def _faults(order: _Order, check: ArtefactCheck, parity: Parity | None) -> Iterator[str]:
    fault = None if parity is None else parity_fault(parity, check.precision)
    if fault is not None:
        yield fault
    if order.max_drop is None:
        return
    if check.drop is None:
        yield f"its {order.metric} could not be measured, so a drop of at most {order.max_drop:g} cannot be promised"
    elif check.drop > order.max_drop:
        before = order.accuracy.figures[order.metric].value
        yield f"{order.metric} fell by {check.drop:.4f} (from {before:.4f}), expected at most {order.max_drop:g}"


def _deliver(made: Path, place: Path) -> None:
    """Move an artefact into place; a folder cannot be replaced atomically, so the old one is moved aside first."""
    if place.is_dir():
        shutil.move(place, made.with_name(f"{made.name}.old"))
    os.replace(made, place)


def _report(order: _Order, checks: tuple[ArtefactCheck, ...]) -> ExportReport:
    return ExportReport(
        model=order.model.name,
        model_digest=digest(order.model),
        size_bytes=size_bytes(order.model),
        data=str(order.data),
        imgsz=order.imgsz,
        metric=order.metric,
        accuracy=values(order.accuracy),
        per_class=order.accuracy.per_class,
        max_drop=order.max_drop,
        versions=dict(_versions()),
        artefacts=checks,
    )


def _read(path: Path) -> dict[str, Any] | None:
    """Read the report of an earlier export; None if unreadable: it is derived and may be deleted."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _fail_loudly(report: ExportReport, written: ExportReport, out_dir: Path) -> None:
    failed = [check for check in report.artefacts if not check.passed]
    if not failed:
        return
    rows = [f"{check.label}: {'; '.join(check.faults)}" for check in failed]
    kind: type[DeliveryError] = CheckFailed if all(check.path for check in failed) else ExportFailed
    delivered = [check.label for check in report.artefacts if check.passed]
    rows += [f"delivered: {', '.join(delivered)}"] if delivered else []
    error = kind(
        "\n".join(["not delivered:", *rows]),
        where=str(out_dir / "export.json"),
        next_command="export with quantize=16 or 32, or allow more with --max-drop" if kind is CheckFailed else None,
    )
    error.report = written
    raise error


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
