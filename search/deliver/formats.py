"""The formats that can be exported and verified here, and what each needs installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from objectives.errors import BackendMissing
from objectives.runtimes import OPSET, Runtime
from search.errors import ConfigError, near_miss

PRECISIONS = {8: "int8", 16: "fp16", 32: "fp32"}


@dataclass(frozen=True)
class Format:
    """One export format.

    Args:
        packages: modules that must be importable.
        quantized: further modules for `quantize=8`.
        suffix: how Ultralytics ends the artefact's name.
        runtime: what times it.
        calibrates: INT8 is calibrated on the data set.
        options: further keys of `YOLO.export`.
    """

    name: str
    packages: tuple[str, ...]
    quantized: tuple[str, ...]
    suffix: str
    runtime: Runtime
    calibrates: bool
    options: tuple[tuple[str, Any], ...] = ()


FORMATS = {
    found.name: found
    for found in (
        # ONNX Runtime optimises the graph itself, so the simplifier (and its package) is not needed.
        Format(
            "onnx",
            ("onnx", "onnxruntime"),
            (),
            ".onnx",
            "onnxruntime",
            True,
            (("simplify", False), ("opset", OPSET)),
        ),
        Format("torchscript", (), (), ".torchscript", "torch", False),
        Format("openvino", ("openvino",), ("nncf",), "_openvino_model", "openvino", True),
    )
}


def checked_formats(names: Sequence[str], quantize: int | None) -> tuple[Format, ...]:
    """The formats of these names, each once, after everything that could stop them has been looked at.

    Raises:
        ConfigError: no format, an unknown one, or a precision that a format does not have.
        BackendMissing: a package is not installed; carries the pip line.
    """
    if not names:
        raise ConfigError("no format was named", where="format", expected=f"one or more of {', '.join(FORMATS)}")
    if quantize is not None and quantize not in PRECISIONS:
        raise ConfigError(f"unknown precision {quantize}", where="quantize", expected="8, 16 or 32")
    found = tuple(_known(name) for name in dict.fromkeys(names))
    for form in found:
        _check_precision(form, quantize)
        _check_packages(form, quantize)
    return found


def _known(name: str) -> Format:
    if name not in FORMATS:
        raise ConfigError(
            f"unknown export format {name!r}",
            where="format",
            expected=f"one of {', '.join(FORMATS)}",
            near=near_miss(name, FORMATS),
        )
    return FORMATS[name]


def _check_precision(form: Format, quantize: int | None) -> None:
    if form.name == "torchscript" and quantize in (8, 16):
        raise ConfigError(
            f"torchscript is not exported as {PRECISIONS[quantize]} here",
            where="quantize",
            expected="quantize=32, or format=onnx or openvino",
        )


def _check_packages(form: Format, quantize: int | None) -> None:
    wanted = form.packages + (form.quantized if quantize == 8 else ())
    missing = [package for package in wanted if importlib.util.find_spec(package) is None]
    if missing:
        raise BackendMissing(
            " and ".join(missing), needed_for=f"format={form.name}", install=f"pip install {' '.join(missing)}"
        )
