"""Export a user's own network, and verify the file: outputs by its own runtime, accuracy by the user's own task."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from objectives.image_size import Size
from objectives.objective import OBJECTIVES
from pruning.errors import first_line
from search.config.inputs.user_code import UserReference
from search.errors import ConfigError
from search.evaluate.user_task import UserTask, batches_of, judged, task_of
from search.evaluate.workload import load_model
from search.export.errors import CheckFailed, ExportFailed
from search.export.parity import LIMIT, artefact_outputs, compare_outputs
from search.export.report import ArtefactCheck, ExportReport
from search.run_folder.artefact_files import digest, size_bytes
from search.run_folder.atomic import write_json

OPSET = 18
PARITY_INPUTS = 4


def write_onnx(model: nn.Module, example: Tensor, path: Path) -> None:
    """Export a plain graph with a dynamic batch size."""
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output0"]}
    free = {"images": {0: "batch"}, "output0": {0: "batch"}}
    torch.onnx.export(model, (example,), str(path), opset_version=OPSET, dynamic_axes=free, dynamo=False, **names)


def write_torchscript(model: nn.Module, example: Tensor, path: Path) -> None:
    """Export a traced graph, which PyTorch opens without any Python code."""
    torch.jit.save(torch.jit.trace(model, example), str(path))


WRITERS: Mapping[str, tuple[str, Callable[[nn.Module, Tensor, Path], None]]] = MappingProxyType(
    {"onnx": (".onnx", write_onnx), "torchscript": (".torchscript", write_torchscript)}
)
"""Format -> suffix and writer."""


@dataclass(frozen=True)
class _Order:
    """Common arguments of all artefacts of one export."""

    model: nn.Module
    task: UserTask
    inputs: list[Any]
    outputs: list[list[Any]]
    accuracy: Mapping[str, float]
    metric: str
    max_drop: float | None


def export_plain(
    model_path: Path, out_dir: Path, formats: Sequence[str], *, data: str, imgsz: Size, max_drop: float | None = None
) -> ExportReport:
    """Export a network of `workload.save_model` (or `module.py:function`), verify each file, write export.json.

    Each file's outputs on the task's training inputs are compared with the network's, and it is evaluated on the task's
    samples. `max_drop`: largest allowed loss of the task's first figure, in its unit.

    Raises:
        ConfigError: a format that is not available for a plain network. ExportFailed: an export stopped.
        CheckFailed: a file's outputs differ, or it is worse than `max_drop` allows; it is not delivered.
    """
    for name in formats:
        if name not in WRITERS:
            raise ConfigError(f"{name} is not made of a model of your own", expected=", ".join(WRITERS))
    order = _prepared(model_path, data, max_drop)
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".exporting-", dir=out_dir) as folder:
        checks = tuple(_made(order, name, Path(folder), out_dir) for name in formats)
    report = _report(order, model_path, data, imgsz, checks)
    write_json(out_dir / "export.json", report.to_json())
    failed = [f"{check.format}: {'; '.join(check.faults)}" for check in checks if not check.passed]
    if failed:
        raise CheckFailed("\n".join(["not delivered:", *failed]), where=str(out_dir / "export.json"))
    return report


def _prepared(model_path: Path, data: str, max_drop: float | None) -> _Order:
    task, model = task_of(UserReference.required(data)), load_model(model_path)
    samples = itertools.chain.from_iterable(batches_of(task, PARITY_INPUTS, seed=0))
    inputs = [sample[None].numpy() for sample in samples]
    with torch.inference_mode():
        outputs = [[_only(model(torch.from_numpy(one))).numpy()] for one in inputs]
    accuracy = _judged(task, model)
    return _Order(model, task, inputs, outputs, accuracy, next(iter(accuracy)), max_drop)


def _judged(task: UserTask, model: nn.Module) -> dict[str, float]:
    return {name: estimate.value for name, estimate in judged(task, model, device="cpu").figures.items()}


def _made(order: _Order, form: str, folder: Path, out_dir: Path) -> ArtefactCheck:
    suffix, write = WRITERS[form]
    path = folder / f"model{suffix}"
    began = time.perf_counter()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            write(order.model, torch.from_numpy(order.inputs[0]), path)
    except Exception as error:  # exporters raise what they like
        raise ExportFailed(f"{form}: {first_line(error)}", where=form) from error
    seconds = time.perf_counter() - began
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parity = compare_outputs(order.outputs, artefact_outputs(path, form, order.inputs), "train")
    accuracy = _judged(order.task, _opened(path, form))
    drop = _loss(order, accuracy)
    faults = [f"outputs differ by {parity.relative:.2g} of their range"] if parity.relative > LIMIT else []
    if order.max_drop is not None and drop > order.max_drop:
        faults.append(f"{order.metric} is worse by {drop:.4g}, expected at most {order.max_drop:g}")
    check = ArtefactCheck(
        format=form,
        precision="fp32",
        path=path.name,
        size_bytes=size_bytes(path),
        digest=digest(path),
        seconds=seconds,
        parity=parity,
        accuracy=accuracy,
        drop=drop,
        latency=None,
        faults=tuple(faults),
    )
    if check.passed:
        os.replace(path, out_dir / path.name)
    return check


def _loss(order: _Order, accuracy: Mapping[str, float]) -> float:
    change = accuracy[order.metric] - order.accuracy[order.metric]
    return -change if OBJECTIVES[order.metric].direction == "max" else change


def _opened(path: Path, form: str) -> nn.Module:
    """Wrap the exported file as a network, so that the user's own function can evaluate it."""
    if form == "onnx":
        return _OnnxNetwork(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened: nn.Module = torch.jit.load(str(path))
    return opened


class _OnnxNetwork(nn.Module):
    """A network that runs ONNX Runtime on the CPU."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, C, S, S) to the network's output."""
        found = self._session.run(None, {"images": np.ascontiguousarray(images.numpy())})
        return torch.from_numpy(found[0])


def _only(output: Any) -> Tensor:
    if not isinstance(output, Tensor):
        raise ConfigError(f"the model gives a {type(output).__name__}", expected="one tensor, to be exported")
    return output


def _report(order: _Order, model_path: Path, data: str, imgsz: Size, checks: tuple[ArtefactCheck, ...]) -> ExportReport:
    return ExportReport(
        model=model_path.name,
        model_digest=digest(model_path) if model_path.is_file() else "",
        size_bytes=size_bytes(model_path) if model_path.is_file() else 0,
        data=data,
        imgsz=imgsz,
        metric=order.metric,
        accuracy=order.accuracy,
        per_class={},
        max_drop=order.max_drop,
        versions={name: version(name) for name in ("torch", "onnx", "onnxruntime")},
        artefacts=checks,
    )
