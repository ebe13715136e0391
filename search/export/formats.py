"""Export formats, their precisions, and the packages that each one needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from objectives.errors import BackendMissing
from objectives.runtimes.open import OPSET
from search.errors import ConfigError, DeviceMissing, near_miss

PRECISIONS = {8: "int8", 16: "fp16", 32: "fp32"}
BITS = {name: bits for bits, name in PRECISIONS.items()}


@dataclass(frozen=True)
class Format:
    """One export format.

    Args:
        packages: modules that must be importable.
        precisions: bits -> further modules; others are not available.
        suffix: how Ultralytics ends the artefact's name.
        runtime: times and runs it; None: Ultralytics' own backend of the format.
        calibrates: INT8 needs images through Ultralytics (ONNX is calibrated by `onnx_int8.py`).
        gpu: it is made and run on a GPU only.
        options: further keys of `YOLO.export`.
    """

    name: str
    packages: tuple[str, ...]
    precisions: Mapping[int, tuple[str, ...]]
    suffix: str
    runtime: str | None
    calibrates: bool = False
    gpu: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


# ONNX Runtime optimises the graph itself, so the simplifier (and its package) is not needed.
_PLAIN_GRAPH = {"simplify": False, "opset": OPSET}

FORMATS: dict[str, Format] = {
    found.name: found
    for found in (
        Format("onnx", ("onnx", "onnxruntime"), {32: (), 16: (), 8: ()}, ".onnx", "onnxruntime", options=_PLAIN_GRAPH),
        Format("torchscript", (), {32: ()}, ".torchscript", "torch"),
        Format(
            "openvino", ("openvino",), {32: (), 16: (), 8: ("nncf",)}, "_openvino_model", "openvino", calibrates=True
        ),
        Format(
            "engine",
            ("tensorrt", "onnx"),
            {32: (), 16: (), 8: ()},
            ".engine",
            "tensorrt",
            calibrates=True,
            gpu=True,
            options=_PLAIN_GRAPH,
        ),
        Format("ncnn", ("ncnn", "pnnx"), {32: (), 16: ()}, "_ncnn_model", None),
        Format("mnn", ("MNN", "onnx"), {32: (), 16: (), 8: ()}, ".mnn", None, options=_PLAIN_GRAPH),
    )
}

_PIP = {"modelopt": '"nvidia-modelopt[onnx]"', "pnnx": "pnnx==20260526"}
"""What pip calls a module, where the names differ; pnnx as Ultralytics 8.4.190 pins it."""


@dataclass(frozen=True)
class Target:
    """A requested artefact: a format in a precision."""

    form: Format
    bits: int

    @property
    def precision(self) -> str:
        """fp32, fp16 or int8."""
        return PRECISIONS[self.bits]

    @property
    def label(self) -> str:
        """`onnx int8`."""
        return f"{self.form.name} {self.precision}"

    def file_name(self, stem: str) -> str:
        """Return model.onnx, model_int8.onnx or model_fp16_openvino_model, by content."""
        return f"{stem}{'' if self.bits == 32 else f'_{self.precision}'}{self.form.suffix}"


def asked_formats(text: str | Sequence[str]) -> tuple[str, ...]:
    """Parse `onnx, openvino` or a list of names."""
    found = text.split(",") if isinstance(text, str) else [str(name) for name in text]
    return tuple(name.strip() for name in found if name.strip())


def asked_bits(quantize: object) -> tuple[int, ...]:
    """Parse 8, `8,32`, [8, 32] or None (32).

    Raises:
        ConfigError: anything but 8, 16 and 32.
    """
    listed = quantize.split(",") if isinstance(quantize, str) else quantize
    found = listed if isinstance(listed, (list, tuple)) else [32 if listed is None else listed]
    known = {str(bits): bits for bits in PRECISIONS}
    for number in found:
        if str(number).strip() not in known:
            raise ConfigError(f"unknown precision {number}", where="quantize", expected="8, 16 or 32")
    return tuple(dict.fromkeys(known[str(number).strip()] for number in found))


def checked_targets(
    formats: Sequence[str], quantize: object = None, *, device: str = "cpu"
) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Return (artefacts to make, a sentence for each combination that does not exist), after all checks.

    A format without one of the requested precisions is left out in that one if it has another.

    Raises:
        ConfigError: no format, an unknown one, or one that has none of the precisions.
        BackendMissing: packages are not installed; carries one pip line for all.
        DeviceMissing: a format that needs a GPU.
    """
    if not formats:
        raise ConfigError("no format was named", where="format", expected=f"one or more of {', '.join(FORMATS)}")
    bits = asked_bits(quantize)
    known = [_known(name) for name in dict.fromkeys(formats)]
    for form in known:
        _check_precisions(form, bits)
    targets = tuple(Target(form, one) for form in known for one in bits if one in form.precisions)
    _check_packages(targets)
    _check_device(targets, device)
    return targets, tuple(_left_out(known, bits))


def _left_out(forms: Sequence[Format], bits: Sequence[int]) -> Iterator[str]:
    for form in forms:
        for one in bits:
            if one not in form.precisions:
                yield f"{form.name} has no {PRECISIONS[one]}; it was left out"


def _known(name: str) -> Format:
    if name not in FORMATS:
        raise ConfigError(
            f"{name!r} cannot be exported and verified here",
            where="format",
            expected=f"one of {', '.join(FORMATS)}",
            near=near_miss(name, FORMATS),
            next_command=f"YOLO('model.pt').export(format={name!r}) makes what Ultralytics knows, unverified",
        )
    return FORMATS[name]


def _check_precisions(form: Format, bits: Sequence[int]) -> None:
    if not any(one in form.precisions for one in bits):
        asked = " or ".join(PRECISIONS[one] for one in bits)
        has = ", ".join(map(str, form.precisions))
        raise ConfigError(
            f"{form.name} is not exported as {asked} here", where="quantize", expected=f"quantize={has}, or format=onnx"
        )


def _check_packages(targets: Sequence[Target]) -> None:
    wanted: dict[str, str] = {}
    for target in targets:
        for package in (*target.form.packages, *target.form.precisions[target.bits], *_more(target)):
            wanted.setdefault(package, target.label)
    missing = [package for package in wanted if importlib.util.find_spec(package) is None]
    if missing:
        needed = ", ".join(dict.fromkeys(wanted[package] for package in missing))
        line = " ".join(_PIP.get(package, package) for package in missing)
        raise BackendMissing(" and ".join(missing), needed_for=f"exporting {needed}", install=f"pip install {line}")


def _more(target: Target) -> tuple[str, ...]:
    """Return ModelOpt, which TensorRT needs since version 11 to mark reduced precision in the graph."""
    if target.form.name != "engine" or target.bits == 32 or importlib.util.find_spec("tensorrt") is None:
        return ()
    return ("modelopt",) if int(version("tensorrt").partition(".")[0]) >= 11 else ()


def _check_device(targets: Sequence[Target], device: str) -> None:
    needs = [target.form.name for target in targets if target.form.gpu]
    if needs and device == "cpu":
        raise DeviceMissing(f"format={needs[0]} is made on a GPU", where="device", expected="device=0")
