"""Does the artefact compute what the model computes? Raw outputs, on the same images.

The model is prepared as the exporter prepares it (fused, end-to-end head off), the artefact is run by its own runtime
and not through Ultralytics, so that a fault in either is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.ultralytics_door import quiet, twin_of
from search.deliver.errors import ExportFailed
from search.deliver.export_report import Parity

Array = npt.NDArray[np.float32]

LIMIT = 0.01
"""Relative difference that a float32 artefact may have, in any channel; measured ones are below 1e-4."""
SMALLEST_RANGE = 1e-6
"""A channel whose values are all smaller is compared absolutely."""


def load_images(files: Sequence[Path], imgsz: int, count: int, channels: int) -> tuple[list[Array], str]:
    """`count` letterboxed images of these files, each (1, channels, imgsz, imgsz) float32 in 0 to 1, and "val".

    Random ones, and "random", when none can be read or the model does not take RGB.
    """
    found = list(_letterboxed(files[:count], imgsz)) if channels == 3 else []
    if found:
        return found, "val"
    rng = np.random.default_rng(0)
    return [rng.random((1, channels, imgsz, imgsz), dtype=np.float32) for _ in range(count)], "random"


def model_outputs(model: Any, images: Sequence[Array]) -> list[list[Array]]:
    """The raw output tensors of the Ultralytics module, per image. The module is not changed."""
    twin = twin_of(model).float().cpu().eval()
    if hasattr(twin, "end2end"):
        twin.end2end = False
    with quiet(), torch.inference_mode():
        twin = twin.fuse(verbose=False)
        return [[part.numpy() for part in _tensors(twin(torch.from_numpy(image)))] for image in images]


def artefact_outputs(path: Path, form: str, images: Sequence[Array]) -> list[list[Array]]:
    """The raw outputs of an artefact, run by its own runtime on the CPU.

    Raises:
        ExportFailed: it cannot be opened or run.
    """
    runs = {"onnx": _run_onnx, "torchscript": _run_torchscript, "openvino": _run_openvino}
    try:
        return runs[form](path, images)
    except Exception as error:
        raise ExportFailed(f"{path.name} was written but cannot be run: {error}", where=form) from error


def compare_outputs(expected: list[list[Array]], found: list[list[Array]], inputs: str) -> Parity:
    """Largest difference over all images; each output is compared with the model's output of its shape.

    Raises:
        ExportFailed: an output has a shape that the model does not give.
    """
    pairs = [pair for want, got in zip(expected, found, strict=True) for pair in _matched(want, got)]
    if not all(bool(np.isfinite(got).all()) for _, got in pairs):
        raise ExportFailed("the artefact computes NaN or infinity where the model does not")
    differences = [_differences(want, got) for want, got in pairs]
    return Parity(inputs, len(expected), max(found[0] for found in differences), max(found[1] for found in differences))


def _differences(want: Array, got: Array) -> tuple[float, float]:
    """(largest difference, largest share of its own channel's range).

    Channels are taken one by one because they have different units: boxes are hundreds of pixels, scores at most one,
    and a wrong score would be lost in the boxes' range.
    """
    left, right = _by_channel(want), _by_channel(got)
    gap, scale = np.abs(left - right).max(axis=1), np.abs(left).max(axis=1)
    return float(gap.max()), float((gap / np.maximum(scale, SMALLEST_RANGE)).max())


def _by_channel(output: Array) -> Array:
    """(channels, everything else) of an output (batch, channels, ...)."""
    moved: Array = np.moveaxis(output, 1, 0)
    return moved.reshape(moved.shape[0], -1)


def _matched(expected: list[Array], found: list[Array]) -> Iterator[tuple[Array, Array]]:
    left = list(expected)
    for got in found:
        at = next((at for at, want in enumerate(left) if want.shape == got.shape), None)
        if at is None:
            shapes = ", ".join(str(want.shape) for want in expected)
            raise ExportFailed(f"the artefact gives an output of shape {got.shape}", expected=f"one of {shapes}")
        yield left.pop(at), np.asarray(got, dtype=np.float32)


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        yield output.float()
    elif isinstance(output, dict):
        yield from (part for value in output.values() for part in _tensors(value))
    elif isinstance(output, (list, tuple)):
        yield from (part for value in output for part in _tensors(value))


def _run_onnx(path: Path, images: Sequence[Array]) -> list[list[Array]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [[np.asarray(part) for part in session.run(None, {name: image})] for image in images]


def _run_torchscript(path: Path, images: Sequence[Array]) -> list[list[Array]]:
    with quiet(), torch.inference_mode():
        module = torch.jit.load(str(path), map_location="cpu").eval()
        return [[part.numpy() for part in _tensors(module(torch.from_numpy(image)))] for image in images]


def _run_openvino(path: Path, images: Sequence[Array]) -> list[list[Array]]:
    import openvino

    source = next(iter(sorted(path.glob("*.xml"))))
    # By default OpenVINO computes in bfloat16 where the CPU has it; what is compared here is the graph.
    compiled = openvino.Core().compile_model(str(source), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [[np.array(part) for part in compiled([image]).values()] for image in images]


def _letterboxed(files: Sequence[Path], imgsz: int) -> Iterator[Array]:
    import cv2
    from ultralytics.data.augment import LetterBox

    fit = LetterBox((imgsz, imgsz), auto=False)
    for file in files:
        image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR) if file.is_file() else None
        if image is not None:
            planes = np.ascontiguousarray(np.asarray(fit(image=image))[..., ::-1].transpose(2, 0, 1))
            yield (planes[None] / np.float32(255)).astype(np.float32)
