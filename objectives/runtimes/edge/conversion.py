"""Conversion of any module to the file of a runtime, by the functions of Ultralytics' exporter.

Ultralytics' own models go through the exporter itself (`objectives.runtimes.export`), which prepares their heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

Facts = Mapping[str, Any]
"""Metadata in the file: imgsz, channels, batch."""
Converter = Callable[[nn.Module, Tensor, Path, Facts], None]
"""(module, example input (batch, channels, height, width), target, metadata)."""


def to_torchscript(model: nn.Module, image: Tensor, target: Path, facts: Facts) -> None:
    """Trace the module."""
    from ultralytics.utils.export.torchscript import torch2torchscript

    torch2torchscript(model, image, target, dict(facts))


def to_ncnn(model: nn.Module, image: Tensor, target: Path, facts: Facts) -> None:
    """Trace the module and convert it by PNNX. ncnn has no batch, so one image is the example."""
    from ultralytics.utils.export.ncnn import torch2ncnn

    torch2ncnn(model, image[:1], target, metadata={**facts, "batch": 1})


def without_scratch(target: Path) -> Path:
    """Remove PNNX's program that runs an ncnn file: it holds the path of a temporary folder. Return `target`."""
    if target.is_dir():
        for scratch in target.glob("*_ncnn.py"):
            scratch.unlink()
    return target


def to_litert(model: nn.Module, image: Tensor, target: Path, facts: Facts) -> None:
    """Convert the module by litert-torch."""
    from ultralytics.utils.export.litert import torch2litert

    torch2litert(model, image, target, metadata=dict(facts))


def to_executorch(model: nn.Module, image: Tensor, target: Path, facts: Facts) -> None:
    """Export the module and lower it to XNNPACK where that has the operators."""
    from ultralytics.utils.export.executorch import torch2executorch

    torch2executorch(model, image, target, dict(facts))


def onnx_to_mnn(onnx: Path, target: Path, facts: Facts) -> None:
    """Convert an ONNX file."""
    from ultralytics.utils.export.mnn import onnx2mnn

    onnx2mnn(str(onnx), target, metadata=dict(facts))


CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {"torchscript": to_torchscript, "ncnn": to_ncnn, "litert": to_litert, "executorch": to_executorch}
)
"""Runtime -> converter of a module; MNN's reads ONNX."""
