"""Export of a module to a plain ONNX graph, the input of every runtime but PyTorch."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import cast

import torch
from torch import nn

from objectives.errors import LatencyError
from objectives.runtimes.runner import random_image
from objectives.runtimes.torch_runner import input_channels
from objectives.ultralytics_door import is_ultralytics, quiet, twin_of

OPSET = 18
"""ONNX opset, pinned: the highest whose operators ONNX Runtime has on all of its devices, and Ultralytics'
own choice."""


def export_for_timing(model: nn.Module, path: Path, *, imgsz: int, batch: int = 1) -> Path:
    """Write the plain ONNX graph of the module to `path`, and return `path`.

    Ultralytics models go through Ultralytics' own exporter with `simplify=False` (ONNX Runtime optimises the graph by
    itself), everything else through `torch.onnx.export`. The module is not changed, nothing is downloaded or installed,
    no other file is written; an existing `path` is replaced atomically. Shapes are static.

    Raises `LatencyError`: a suffix other than .onnx, an `imgsz` that the model's stride does not divide, or an export
    that failed.
    """
    if path.suffix != ".onnx":
        raise LatencyError(f"Expected a path that ends in .onnx, found {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exporting-") as folder:
        target = Path(folder) / "model.onnx"
        write = _export_ultralytics if is_ultralytics(model) else _export_plain
        try:
            write(model, target, imgsz, batch)
        except LatencyError:
            raise
        except Exception as fault:
            raise LatencyError(
                f"{type(model).__name__} could not be exported to ONNX at imgsz={imgsz}: {fault}"
            ) from fault
        os.replace(target, path)
    return path


def _export_ultralytics(model: nn.Module, target: Path, imgsz: int, batch: int) -> None:
    from ultralytics.engine.exporter import Exporter

    twin = twin_of(model)
    stride = int(max(twin.stride))
    if imgsz % stride:
        raise LatencyError(
            f"imgsz={imgsz} is not a multiple of the model's stride {stride}; Ultralytics would round it up."
        )
    twin.pt_path = str(target.with_suffix(".pt"))  # the exporter writes beside the checkpoint, which need not exist
    with quiet():
        exporter = Exporter(
            overrides={
                "format": "onnx",
                "imgsz": imgsz,
                "batch": batch,
                "simplify": False,
                "opset": OPSET,
                "device": "cpu",
                "dynamic": False,
            }
        )
        exporter(model=twin)


def _export_plain(model: nn.Module, target: Path, imgsz: int, batch: int) -> None:
    twin = cast(nn.Module, twin_of(model)).eval().float().cpu()
    image = torch.from_numpy(random_image(batch, input_channels(model), imgsz))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            twin,
            (image,),
            str(target),
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output0"],
            dynamo=False,
        )
