"""Static INT8 quantisation of an ONNX file by ONNX Runtime; layers that INT8 breaks stay in float.

Four settings differ from what `YOLO.export(format="onnx", quantize=8)` of Ultralytics 8.4 does; docs/export.md has the
figures of each.

- Activations are unsigned. With both sides signed, ONNX Runtime's default, x86 has no fast kernel and the quantised
  file is slower than the float one.
- A tensor's range is the mean of the images' extremes, not the extreme of all of them: one outlier among the images
  would widen the range, hence the step, for all, and more calibration images would make the file worse.
- Weights have a scale for each output channel (Krishnamoorthi 2018, arXiv 1806.08342, section 3).
- The last weighted layers before the outputs stay in float, with everything after them: boxes in pixels and scores
  below one share no scale, and the fixed layer that turns bins into distances multiplies the rounding by up to 15.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from search.export.parity import Array

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
"""Only these are quantised: they are where the time goes."""


def quantise_onnx(source: Path, target: Path, images: Iterable[Array]) -> None:
    """Write the INT8 version of a float32 ONNX file.

    Args:
        images: (batch, channels, height, width) float32 each, at least one.

    Raises:
        ValueError: no image. ONNX Runtime's own errors pass through.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    graph = onnx.load(str(source)).graph
    given = list(images)
    if not given:
        raise ValueError("no image to find the ranges by")
    quantize_static(
        str(source),
        str(target),
        reader_of(graph.input[0].name, given),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=saturates(),
        nodes_to_exclude=sorted(kept_in_float(graph)),
        extra_options={"CalibMovingAverage": True},
    )


def kept_in_float(graph: Any) -> set[str]:
    """Return the nodes not to quantise: those without weights, and the last weighted ones before an output."""
    made_by = {output: node for node in graph.node for output in node.output}
    constants = {constant.name: constant for constant in graph.initializer}
    found = {node.name for node in graph.node if node.op_type not in WEIGHTED}
    waiting, seen = [output.name for output in graph.output], set[str]()
    while waiting:
        name = waiting.pop()
        node = made_by.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in WEIGHTED:
            found.add(node.name)
        if node.op_type not in WEIGHTED or _is_distribution(node, constants):
            waiting += node.input
    return found


def _is_distribution(node: Any, constants: dict[str, Any]) -> bool:
    """Detect the fixed layer of weights 0, 1, 2, ... (distribution focal loss); layers before it count as last too."""
    from onnx import numpy_helper

    weight = constants.get(node.input[1]) if node.op_type == "Conv" else None
    if weight is None or list(weight.dims[:1]) != [1]:
        return False
    values = numpy_helper.to_array(weight).ravel()
    return bool(np.array_equal(values, np.arange(len(values))))


def reader_of(name: str, images: list[Array]) -> Any:
    """Return the calibration reader of ONNX Runtime over the images, for the input of that name."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Yields the images once."""

        def __init__(self) -> None:
            self._left = iter(images)

        def get_next(self) -> Any:
            image = next(self._left, None)
            return None if image is None else {name: image}

    return Reader()


def saturates() -> bool:
    """Return whether this processor adds pairs of 8-bit products in 16 bits (x86 without VNNI), so weights get 7 bits.

    Source: ONNX Runtime, "Quantize ONNX models", When and why do I need to try U8U8.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
