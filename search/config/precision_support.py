"""Precisions of each runtime, and the file format used in each. Light: read by the study's specification."""

from __future__ import annotations

from collections.abc import Sequence

from objectives.runtimes.names import is_command

FILES = {
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "tensorrt": "engine",
    "torchscript": "torchscript",
    "ncnn": "ncnn",
    "mnn": "mnn",
    "litert": "litert",
    "executorch": "executorch",
}
"""Runtime -> export format of what it runs; a user's program (`command:`) gets ONNX."""
_CPU = {
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
    "ncnn": ("fp32", "fp16"),
    "mnn": ("fp32", "fp16", "int8"),
    "litert": ("fp32", "int8"),
}
_GPU = {"onnxruntime": ("fp32", "fp16"), "tensorrt": ("fp32", "fp16", "int8")}
"""ONNX Runtime computes FP16 in float on a CPU, and its CUDA kernels know no quantised convolution."""


def precisions_of(runtime: str, device: str = "cpu") -> tuple[str, ...]:
    """Return the precisions in which a candidate can be timed and validated; fp32 everywhere."""
    if is_command(runtime):
        return ("fp32", "fp16", "int8")
    table = _GPU if runtime == "tensorrt" or device != "cpu" else _CPU
    return table.get(runtime, ("fp32",))


def file_format(runtime: str) -> str:
    """Return the export format that the runtime uses."""
    return "onnx" if is_command(runtime) else FILES[runtime]


ROUNDING = 8
"""Channels to which widths are rounded where nothing else is known: a vector of 8 floats, and FP16 on tensor cores."""
_TENSOR_CORES_INT8 = 32
"""TensorRT lays INT8 out in blocks of 32 channels (its documentation on reformat-free I/O: NC/32HW32)."""


def rounding_of(runtime: str, precisions: Sequence[str]) -> int:
    """Return the multiple to which widths are rounded for `space.round_to: auto`, that of the coarsest precision."""
    return _TENSOR_CORES_INT8 if runtime == "tensorrt" and "int8" in precisions else ROUNDING


def precision_fault(precisions: tuple[str, ...], runtime: str, device: str, *, own: bool = False) -> str | None:
    """Return why these precisions cannot be searched on this runtime, or None.

    Args:
        own: the model is the user's own network (`module.py:function`).
    """
    if own and set(precisions) != {"fp32"}:
        return "space.precision: a network of your own is not quantised; expected [fp32]"
    known = precisions_of(runtime, device)
    wrong = [precision for precision in precisions if precision not in known]
    if not wrong:
        return None
    others = [f"{name} ({', '.join(found)})" for name in FILES if wrong[0] in (found := precisions_of(name, device))]
    hint = f"; {wrong[0]} can be searched with runtime {' or '.join(others)}" if others else ""
    return (
        f"runtime {runtime} on {device} cannot run {wrong[0]}, which space.precision asks for: it has "
        f"{', '.join(known)}{hint}"
    )
