"""Conversion of any module to the file of a runtime, by the functions of Ultralytics' exporter.

Ultralytics' own models go through the exporter itself (`objectives.runtimes.export`), which prepares their heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from objectives.errors import BackendMissing

Facts = Mapping[str, Any]
"""Metadata in the file: imgsz, channels, batch."""
Converter = Callable[[nn.Module, Tensor, Path, Facts], None]
"""(module, example input (batch, channels, height, width), target, metadata)."""


def _converter(runtime: str, name: str) -> Any:
    """Return a converter of Ultralytics. Raises BackendMissing: this release has none for a module that is not its."""
    from ultralytics_versions.parts import part
    from ultralytics_versions.tested import TESTED

    found = part(f"utils.export.{runtime}", name, otherwise=None)
    if found is None:
        raise BackendMissing(
            "the converter that later releases of Ultralytics have",
            needed_for=f"a module of your own as {runtime}",
            install=f'pip install "ultralytics>={TESTED[-1]}"',
        )
    return found


def to_torchscript(model: nn.Module, image: Tensor, target: Path, facts: Facts) -> None:
    """Trace the module."""
    _converter("torchscript", "torch2torchscript")(model, image, target, metadata=dict(facts))


def to_ncnn(model: nn.Module, image: Tensor, target: Path, facts: Facts) -> None:
    """Trace the module and convert it by PNNX. ncnn has no batch, so one image is the example."""
    _converter("ncnn", "torch2ncnn")(model, image[:1], target, metadata={**facts, "batch": 1})


def without_scratch(target: Path) -> Path:
    """Remove PNNX's program that runs an ncnn file: it holds the path of a temporary folder. Return `target`."""
    if target.is_dir():
        for scratch in target.glob("*_ncnn.py"):
            scratch.unlink()
    return target


def to_litert(model: nn.Module, image: Tensor, target: Path, facts: Facts) -> None:
    """Convert the module by litert-torch."""
    _converter("litert", "torch2litert")(model, image, target, metadata=dict(facts))


def to_executorch(model: nn.Module, image: Tensor, target: Path, facts: Facts) -> None:
    """Export the module and lower it to XNNPACK where that has the operators."""
    _converter("executorch", "torch2executorch")(model, image, target, metadata=dict(facts))


def onnx_to_mnn(onnx: Path, target: Path, facts: Facts) -> None:
    """Convert an ONNX file."""
    _converter("mnn", "onnx2mnn")(str(onnx), target, metadata=dict(facts))


CONVERTERS: Mapping[str, Converter] = MappingProxyType(
    {"torchscript": to_torchscript, "ncnn": to_ncnn, "litert": to_litert, "executorch": to_executorch}
)
"""Runtime -> converter of a module; MNN's reads ONNX."""
