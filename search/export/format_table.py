"""The export formats of Ultralytics 8.4: those that are checked here, and those that are only passed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from objectives.runtimes.export import PLAIN_GRAPH


@dataclass(frozen=True)
class Format:
    """One export format.

    Args:
        packages: modules that must be importable.
        precisions: bits -> further modules; others are not available. The first is made where none is asked for and
            there is no float32.
        suffix: how Ultralytics ends the artefact's name.
        runtime: times and runs it; None: Ultralytics' own backend of the format.
        calibrates: INT8 needs images through Ultralytics (ONNX is calibrated by `onnx_int8.py`).
        gpu: it is made and run on a GPU only.
        options: further keys of `YOLO.export`.
        runs_on: a device that this machine is not, so that nothing of the file is checked here but that it was
            written, and its time by a `command:`; empty for a format that is checked.
        programs: what must be on the PATH besides, which Ultralytics would install by itself.
        vendor: where packages that PyPI does not have come from.
        takes: which of `GraphOptions` it can have (`batch`, `dynamic`, `nms`): what Ultralytics' exporter knows, and of
            a format that is checked here only what is checked.
    """

    name: str
    packages: tuple[str, ...]
    precisions: Mapping[int, tuple[str, ...]]
    suffix: str
    runtime: str | None
    calibrates: bool = False
    gpu: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    runs_on: str = ""
    programs: tuple[str, ...] = ()
    vendor: str = ""
    takes: frozenset[str] = frozenset()


def _checked() -> Iterator[Format]:
    every = frozenset({"batch", "dynamic", "nms"})
    yield Format(
        "onnx",
        ("onnx", "onnxruntime"),
        {32: (), 16: (), 8: ()},
        ".onnx",
        "onnxruntime",
        options=PLAIN_GRAPH,
        takes=every,
    )
    yield Format("torchscript", (), {32: ()}, ".torchscript", "torchscript", takes=every)
    yield Format(
        "openvino",
        ("openvino",),
        {32: (), 16: (), 8: ("nncf",)},
        "_openvino_model",
        "openvino",
        calibrates=True,
        takes=every,
    )
    yield Format(
        "engine",
        ("tensorrt", "onnx"),
        {32: (), 16: (), 8: ()},
        ".engine",
        "tensorrt",
        calibrates=True,
        gpu=True,
        options=PLAIN_GRAPH,
        takes=every,
    )
    yield Format("ncnn", ("ncnn", "pnnx"), {32: (), 16: ()}, "_ncnn_model", "ncnn")
    yield Format("mnn", ("MNN", "onnx"), {32: (), 16: (), 8: ()}, ".mnn", "mnn", options=PLAIN_GRAPH)
    yield Format(
        "litert",
        ("ai_edge_litert", "litert_torch"),
        {32: (), 8: ("ai_edge_quantizer",)},
        ".tflite",
        "litert",
        calibrates=True,
    )
    yield Format("executorch", ("executorch",), {32: ()}, "_executorch_model", "executorch")


_AXELERA = "from https://software.axelera.ai/artifactory/api/pypi/axelera-pypi/simple"
_HAILO = "the Hailo Dataflow Compiler is on https://hailo.ai/developer-zone only"


def _passed_on() -> Iterator[Format]:
    """Yield the formats of devices and tools that we do not have: packages as Ultralytics' exporters import them."""
    tensorflow = ("tensorflow", "tf_keras", "onnx2tf", "sng4onnx", "onnx_graphsurgeon", "ai_edge_litert", "onnx")
    float_half, whole = {32: (), 16: ()}, {8: ()}
    batch = frozenset({"batch"})
    apple = {**float_half, **whole}
    yield _only("coreml", ("coremltools",), apple, ".mlpackage", "Apple devices", takes=batch | {"dynamic", "nms"})
    yield _only("coreai", ("coreai_torch",), float_half, ".aimodel", "Apple devices", takes=batch)
    yield _only("saved_model", tensorflow, {32: (), 8: ()}, "_saved_model", "TensorFlow", calibrates=True)
    yield _only("pb", tensorflow, {32: ()}, ".pb", "TensorFlow", takes=batch)
    coral = "a Coral Edge TPU"
    yield _only("edgetpu", tensorflow, whole, "_edgetpu.tflite", coral, calibrates=True, programs=("edgetpu_compiler",))
    yield _only("paddle", ("paddle", "x2paddle"), {32: ()}, "_paddle_model", "PaddlePaddle", takes=batch)
    sony = ("model_compression_toolkit", "edgemdt_tpc", "edgemdt_cl", "onnx")
    yield _only("imx", sony, whole, "_imx_model", "a Sony IMX500", calibrates=True, programs=("imxconv-pt", "java"))
    yield _only("rknn", ("rknn", "onnx"), {16: (), 8: ()}, "_rknn_model", "a Rockchip NPU", calibrates=True)
    yield _only(
        "axelera", ("axelera", "onnx"), whole, "_axelera_model", "an Axelera AIPU", calibrates=True, vendor=_AXELERA
    )
    yield _only("deepx", ("dx_com", "onnx"), whole, "_deepx_model", "a DEEPX NPU", calibrates=True)
    qnn = ("onnxruntime_qnn", "onnxruntime", "onnx")
    # 8-bit weights and 16-bit activations: the only precision that Ultralytics makes for it
    yield _only("qnn", qnn, whole, "_qnn.onnx", "a Qualcomm HTP", calibrates=True, options={"quantize": "w8a16"})
    yield _only(
        "hailo",
        ("hailo_sdk_client", "onnx"),
        whole,
        "_hailo_model",
        "a Hailo accelerator",
        calibrates=True,
        vendor=_HAILO,
    )
    yield _only("ascend", ("onnx",), {16: ()}, "_ascend_model", "a Huawei Ascend NPU", programs=("atc",))
    yield _only("xilinx", ("quark", "onnx"), whole, "_xilinx_model", "an AMD Versal DPU", calibrates=True)


def _only(
    name: str,
    packages: tuple[str, ...],
    precisions: Mapping[int, tuple[str, ...]],
    suffix: str,
    runs_on: str,
    **more: Any,
) -> Format:
    return Format(name, packages, precisions, suffix, None, runs_on=runs_on, **more)


FORMATS: dict[str, Format] = {found.name: found for found in (*_checked(), *_passed_on())}
"""Name -> format, as `YOLO.export` calls it; the checked ones first."""
PIP: Mapping[str, str] = MappingProxyType(
    {
        "coreai_torch": "coreai-torch",
        "onnx_graphsurgeon": "onnx-graphsurgeon",
        "paddle": "paddlepaddle",
        "model_compression_toolkit": "model-compression-toolkit",
        "edgemdt_tpc": "edge-mdt-tpc",
        "edgemdt_cl": "edge-mdt-cl",
        "rknn": "rknn-toolkit2",
        "axelera": "axelera-devkit",
        "onnxruntime_qnn": "onnxruntime-qnn",
        "quark": "amd-quark",
    }
)
"""Module of a format that is passed on -> what pip calls it, where the names differ."""
NOT_ON_PYPI = frozenset({"hailo_sdk_client"})
"""Modules that pip cannot install; `Format.vendor` says where they come from."""
CHECKED = tuple(name for name, found in FORMATS.items() if not found.runs_on)
PASSED_ON = tuple(name for name, found in FORMATS.items() if found.runs_on)
