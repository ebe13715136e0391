"""Compare an artefact's raw outputs with the model's on the same images.

The model is prepared as the exporter prepares it (fused, end-to-end head off), the artefact is run by its own runtime
and not through Ultralytics, so that a fault in either is detected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.image_size import Size, sides, size_of
from objectives.runtimes.native_output import native_output
from objectives.runtimes.open import open_runner
from objectives.runtimes.runner import Computes
from objectives.ultralytics_door import quiet, twin_of
from pruning.recovery.images import letterboxed as read_letterboxed
from search.export.errors import ExportFailed
from search.export.graph_options import GraphOptions
from search.export.report import Parity

Array = npt.NDArray[np.float32]

LIMIT = 0.01
"""Relative difference that a float32 artefact may have, in any channel; measured ones are below 1e-3."""
LOUD_LIMITS = {"fp16": 0.1, "int8": 0.7}
"""What a reduced precision may have: the rms of the differences over that of the values, where a channel is loud.
Measured: 0.001 to 0.01 in FP16, 0.1 to 0.4 in INT8. INT8 is judged by its accuracy; this bound only says that something
is still computed: a channel that was rounded to zeros, as happens where boxes and scores share a scale, has 1."""
SMALLEST_RANGE = 1e-6
"""A channel whose values are all smaller is compared absolutely."""
_BY_RUNNER = frozenset({"ncnn", "mnn", "executorch"})
"""Not LiteRT: its files hold boxes as shares of the image, which Ultralytics' backend multiplies again."""
SAYS_SOMETHING = 0.1
"""A channel is looked at for loudness when it reaches this: a score of one in ten, a tenth of a pixel."""


def load_images(files: Sequence[Path], imgsz: Size, count: int, channels: int) -> tuple[list[Array], str]:
    """Return `count` letterboxed images, each (1, channels, height, width) float32 in 0 to 1, and "val".

    Random ones, and "random", if none can be read.
    """
    found = list(letterboxed(files[:count], imgsz, channels))
    if found:
        return found, "val"
    rng = np.random.default_rng(0)
    return [rng.random((1, channels, *sides(imgsz)), dtype=np.float32) for _ in range(count)], "random"


def batches(images: Sequence[Array], graph: GraphOptions, stride: int = 32) -> list[Array]:
    """Return the inputs on which a graph is looked at: single images, or as many at once as it takes.

    A dynamic graph gets single ones, pairs, and one of half the size where the model's largest stride, in px, allows
    that for both sides.
    """
    if not graph.dynamic:
        return _together(images, graph.batch)
    fits = all(side % (2 * stride) == 0 for side in images[0].shape[-2:])
    half = [np.ascontiguousarray(images[0][:, :, ::2, ::2])] if fits else []
    return [*images, *_together(images, 2), *half]


def _together(images: Sequence[Array], many: int) -> list[Array]:
    places = range(len(images))
    return [np.concatenate([images[(place + more) % len(images)] for more in range(many)]) for place in places]


def model_outputs(model: Any, images: Sequence[Array]) -> list[list[Array]]:
    """Return the raw output tensors of the Ultralytics module, per input. The module is not changed."""
    twin = twin_of(model).float().cpu().eval()
    if hasattr(twin, "end2end"):
        twin.end2end = False
    with quiet(), torch.inference_mode():
        twin = twin.fuse(verbose=False)
        return [[part.numpy() for part in _tensors(twin(torch.from_numpy(image)))] for image in images]


def artefact_outputs(path: Path, form: str, images: Sequence[Array]) -> list[list[Array]]:
    """Return the raw outputs of an artefact by its own runtime on the CPU, or by Ultralytics' backend of the format.

    Raises:
        ExportFailed: it cannot be opened or run.
    """
    runs = {"onnx": _run_onnx, "torchscript": _run_torchscript, "openvino": _run_openvino}
    try:
        if form in _BY_RUNNER:
            return _run_runner(path, form, images)
        return runs.get(form, run_backend)(path, images)
    except Exception as error:
        raise ExportFailed(f"{path.name} was written but cannot be run: {error}", where=form) from error


def compare_outputs(expected: list[list[Array]], found: list[list[Array]], inputs: str) -> Parity:
    """Return the largest difference over all images; outputs are matched by shape.

    Raises:
        ExportFailed: an output has a shape that the model does not have.
    """
    by_image = [list(_matched(want, got)) for want, got in zip(expected, found, strict=True)]
    if not all(bool(np.isfinite(got).all()) for pairs in by_image for _, got in pairs):
        raise ExportFailed("the artefact computes NaN or infinity where the model does not")
    outputs = [_side_by_side(pairs) for pairs in zip(*by_image, strict=True)]
    gap, relative, loud = (max(_differences(*output)[index] for output in outputs) for index in range(3))
    return Parity(inputs, len(expected), gap, relative, loud)


def parity_fault(parity: Parity, precision: str) -> str | None:
    """Return why these outputs differ beyond the tolerance of their precision, or None."""
    if precision == "fp32" and parity.relative > LIMIT:
        return f"outputs differ by {parity.relative:.2g} of their range, expected at most {LIMIT:g}"
    limit = LOUD_LIMITS.get(precision)
    if limit is not None and parity.loud > limit:
        return f"outputs differ by {parity.loud:.2g} of their size, expected at most {limit:g} in {precision}"
    return None


def _side_by_side(pairs: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Reshape one output of all images, expected and found, to (channels, everything else)."""
    left, right = ([_by_channel(pair[side]) for pair in pairs] for side in (0, 1))
    return np.concatenate(left, axis=1), np.concatenate(right, axis=1)


def _differences(left: Array, right: Array) -> tuple[float, float, float]:
    """Return (largest difference, largest share of its channel's range, largest share of the size of loud values).

    Channels are compared one by one because their units differ: boxes are hundreds of pixels, scores at most one, and a
    wrong score would vanish in the boxes' range. Loud means above half of the channel's largest value.
    """
    gaps, scale = np.abs(left - right), np.abs(left).max(axis=1)
    relative = float((gaps.max(axis=1) / np.maximum(scale, SMALLEST_RANGE)).max())
    loud = (np.abs(left) >= 0.5 * scale[:, None]) & (scale > SAYS_SOMETHING)[:, None]
    heard = loud.any(axis=1)
    error, size = (np.sqrt((part**2 * loud).sum(axis=1)[heard]) for part in (gaps, left))
    return float(gaps.max()), relative, float((error / size).max()) if heard.any() else 0.0


def _by_channel(output: Array) -> Array:
    """Reshape an output (batch, channels, ...) to (channels, everything else)."""
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


def _run_runner(path: Path, form: str, images: Sequence[Array]) -> list[list[Array]]:
    """Run the runner that times such files."""
    runner = open_runner(path, runtime=form, imgsz=size_of(images[0].shape[-2:]) or 0)
    if not isinstance(runner, Computes):
        raise TypeError(f"{type(runner).__name__} has no outputs")
    return [runner.outputs(image) for image in images]


def run_backend(path: Path, images: Sequence[Array]) -> list[list[Array]]:
    """Run Ultralytics' own backend of the format, as `YOLO(path)` does."""
    from ultralytics.nn.autobackend import AutoBackend

    with quiet(), native_output(), torch.inference_mode():
        backend: Any = AutoBackend(str(path), device=torch.device("cpu"), verbose=False)
        return [[part.cpu().numpy() for part in _tensors(backend(torch.from_numpy(image)))] for image in images]


def letterboxed(files: Sequence[Path], imgsz: Size, channels: int) -> Iterator[Array]:
    """Yield each readable image as the validator prepares it: (1, channels, height, width) float32, 0 to 1."""
    from ultralytics.data.augment import LetterBox

    fit = LetterBox(sides(imgsz), auto=False)
    for file in files:
        planes = read_letterboxed(file, fit, channels)
        if planes is not None:
            yield (planes[None] / np.float32(255)).astype(np.float32)
