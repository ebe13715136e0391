"""Export of a module to the file that a runtime is timed on: a plain ONNX graph, or the runtime's own format."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from objectives.errors import BackendMissing, LatencyError
from objectives.image_size import Size, sides, written
from objectives.runtimes.edge.conversion import CONVERTERS, onnx_to_mnn, without_scratch
from objectives.runtimes.edge.mnn_runner import without_telemetry
from objectives.runtimes.names import check_packages, file_suffix
from objectives.runtimes.native_output import Said, native_output
from objectives.runtimes.runner import random_image
from objectives.runtimes.torch_runner import input_channels
from objectives.ultralytics_door import is_ultralytics, quiet, twin_of

OPSET = 18
"""ONNX opset, pinned: the highest whose operators ONNX Runtime has on all of its devices, and Ultralytics'
own choice."""
PLAIN_GRAPH = {"simplify": False, "opset": OPSET}
"""ONNX Runtime optimises the graph itself, so the simplifier (and its package) is not needed."""


def export_for_timing(
    model: nn.Module, path: Path, *, imgsz: Size, batch: int = 1, runtime: str = "onnxruntime"
) -> Path:
    """Write the file that `runtime` is timed on to `path`, and return `path`.

    Its name ends as `names.file_suffix` says: `.onnx`, or what Ultralytics calls the runtime's own format, which may be
    a folder. Ultralytics models go through Ultralytics' own exporter, everything else through `torch.onnx.export` and
    `edge.conversion`. The module is not changed, nothing is downloaded, installed or printed, no other file is written;
    an existing `path` is replaced. Shapes are static.

    Raises `BackendMissing` if the converter is not installed, and `LatencyError`: another suffix, an `imgsz` that the
    model's stride does not divide, or an export that failed.
    """
    suffix = file_suffix(runtime)
    if not path.name.endswith(suffix):
        raise LatencyError(f"Expected a path that ends in {suffix}, found {path}.")
    if suffix != ".onnx":
        check_packages(runtime, converts=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exporting-") as folder:
        target = Path(folder) / f"model{suffix}"
        write = _export_ultralytics if is_ultralytics(model) else _export_plain
        try:
            write(model, target, imgsz, batch, runtime)
        except (LatencyError, BackendMissing):
            raise
        except Exception as fault:
            form = "ONNX" if suffix == ".onnx" else runtime
            raise LatencyError(
                f"{type(model).__name__} could not be exported to {form} at imgsz={written(imgsz)}: {fault}"
            ) from fault
        if path.is_dir():  # a folder cannot be replaced in one step
            shutil.rmtree(path)
        os.replace(without_scratch(target), path)
    return path


def _export_ultralytics(model: nn.Module, target: Path, imgsz: Size, batch: int, runtime: str) -> None:
    from ultralytics.engine.exporter import Exporter

    from ultralytics_versions.parts import traced_onnx

    twin = twin_of(model)
    stride = int(max(twin.stride))
    if any(side % stride for side in sides(imgsz)):
        raise LatencyError(
            f"imgsz={written(imgsz)} is not a multiple of the model's stride {stride}; Ultralytics would round it up."
        )
    twin.pt_path = str(target.with_name("model.pt"))  # the exporter writes beside the checkpoint, which need not exist
    settings: dict[str, Any] = {
        "format": "onnx" if target.suffix == ".onnx" else runtime,
        "imgsz": list(sides(imgsz)),
        "batch": 1 if runtime == "ncnn" else batch,
        "device": "cpu",
        "dynamic": False,
        **(PLAIN_GRAPH if target.suffix in (".onnx", ".mnn") else {}),
    }
    without_telemetry()
    with quiet(), _converters_silent(runtime), traced_onnx():
        Exporter(overrides=settings)(model=twin)
    if not target.exists():
        raise LatencyError(f"Ultralytics' exporter wrote no {target.name}.")


@contextlib.contextmanager
def _converters_silent(runtime: str) -> Iterator[None]:
    """Keep the words of native converters from the terminal; where one fails, its last ones are part of the error."""
    if file_suffix(runtime) == ".onnx":
        yield
        return
    said = Said()
    try:
        with native_output() as said:
            yield
    except Exception as fault:
        last = said.last_lines()
        raise LatencyError(f"the conversion to {runtime} failed: {fault}{f' ({last})' if last else ''}") from fault


def _export_plain(model: nn.Module, target: Path, imgsz: Size, batch: int, runtime: str) -> None:
    twin = cast(nn.Module, twin_of(model)).eval().float().cpu()
    image = torch.from_numpy(random_image(batch, input_channels(model), imgsz))
    facts = {"imgsz": list(sides(imgsz)), "channels": image.shape[1], "batch": batch}
    without_telemetry()
    with warnings.catch_warnings(), quiet(), _converters_silent(runtime):
        warnings.simplefilter("ignore")
        if runtime in CONVERTERS:
            CONVERTERS[runtime](twin, image, target, facts)
        elif runtime == "mnn":
            _write_onnx(twin, image, target.with_suffix(".onnx"))
            onnx_to_mnn(target.with_suffix(".onnx"), target, facts)
        else:
            _write_onnx(twin, image, target)


def _write_onnx(model: nn.Module, image: torch.Tensor, target: Path) -> None:
    with torch.inference_mode():
        torch.onnx.export(
            model,
            (image,),
            str(target),
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output0"],
            dynamo=False,
        )
