"""Export a checkpoint by `YOLO.export`; the only module that calls it.

Trials and deliveries use the same settings, so that both get the same file.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from objectives.image_size import Size, sides
from objectives.runtimes.edge.conversion import without_scratch
from objectives.runtimes.edge.mnn_runner import without_telemetry
from objectives.runtimes.names import SUFFIXES
from objectives.runtimes.native_output import Said, native_output
from objectives.runtimes.torch_runner import input_channels
from objectives.ultralytics_door import load_module, quiet
from search.config.inputs.dataset import LabelRules
from search.export.calibration_images import IMAGES, calibration_arrays, calibration_files, calibration_set
from search.export.errors import ExportFailed
from search.export.formats import Target
from search.export.onnx_int8 import quantise_onnx


def make_artefact(
    model: Path,
    target: Target,
    place: Path,
    *,
    data: Path,
    imgsz: Size,
    device: str = "cpu",
    batch: int = 1,
    images: int = IMAGES,
) -> Path:
    """Export a checkpoint into the new folder `place`; return the artefact, a file or a folder.

    Args:
        data: the training images of this data set calibrate INT8.
        batch: images of one inference, of a graph that says nothing else.
        images: number of these; few are enough if only the latency matters.

    Raises:
        ExportFailed: the exporter stopped. ConfigError: INT8, and the data set cannot be read.
    """
    place.mkdir(parents=True, exist_ok=True)
    # Ultralytics writes beside the checkpoint, so it gets one of its own.
    source = Path(shutil.copyfile(model, place / f"{model.stem}.pt"))
    batch = max(batch, target.graph.batch)
    shape = {"imgsz": list(sides(imgsz)), "device": device, "batch": batch}
    options = {**target.form.options, **shape, **target.graph.arguments}
    ours = target.bits == 8 and target.form.name == "onnx"
    if target.bits != 32 and not ours:
        from ultralytics_versions.parts import export_precision

        options |= export_precision(target.bits)
    if target.bits == 8 and target.form.calibrates:
        linked = calibration_set(data, place / "calibration", images, LabelRules.of(load_module(model)))
        options |= {"data": str(linked), "split": "train"}
    said = Said()
    try:
        with silence(), native_output() as said:
            made = _export(source, target, options)
            path = place / target.file_name(model.stem)
            if ours:
                _quantise(source, made, path, data, imgsz, batch, images)
            elif made != path:
                made.rename(path)
    except Exception as error:  # the exporters raise what they like
        last = f" ({said.last_lines(1)})" if said.text and target.form.runtime in SUFFIXES else ""
        raise ExportFailed(f"{target.label}: the export stopped: {error}{last}", where=str(model)) from error
    return without_scratch(path)


def _export(source: Path, target: Target, options: dict[str, Any]) -> Path:
    from ultralytics.models import YOLO

    from ultralytics_versions.parts import traced_onnx
    from ultralytics_versions.restricted_loading import install

    install()
    without_telemetry()
    with traced_onnx():
        return Path(YOLO(source).export(format=target.form.name, **options))


def _quantise(model: Path, made: Path, path: Path, data: Path, imgsz: Size, batch: int, images: int) -> None:
    import numpy as np

    module: Any = load_module(model)
    files = calibration_files(data, images, LabelRules.of(module))
    arrays = calibration_arrays(files, imgsz, str(module.task), input_channels(module))
    quantise_onnx(made, path, (np.repeat(array, batch, axis=0) for array in arrays))
    made.unlink()


@contextmanager
def silence() -> Iterator[None]:
    """Silence Ultralytics, NNCF's progress bars, and ONNX Runtime's quantizer, which warns per layer through the root
    logger and leaves a handler on it.
    """
    level, handlers = logging.root.manager.disable, list(logging.root.handlers)
    logging.disable(logging.WARNING)
    try:
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
        logging.root.handlers[:] = handlers
