"""Open an artefact on a runtime for timing, with its input in place.

Every runtime is a `Runner`, opened by `open_runner`. Its package is imported only then, so that a missing one raises
`BackendMissing` with the install command only where it is needed.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from objectives.errors import LatencyError
from objectives.held_folder import held_folder, make_held_folder, release
from objectives.image_size import Size, sides
from objectives.runtimes.command_runner import TIMEOUT_S, CommandRunner
from objectives.runtimes.edge.executorch_runner import ExecutorchRunner
from objectives.runtimes.edge.litert_runner import LitertRunner
from objectives.runtimes.edge.mnn_runner import MnnRunner
from objectives.runtimes.edge.ncnn_runner import NcnnRunner
from objectives.runtimes.export import OPSET, export_for_timing
from objectives.runtimes.names import RUNTIMES, Runtime, check_runtime, file_suffix, is_command
from objectives.runtimes.onnx_runner import OnnxRunner
from objectives.runtimes.openvino_runner import OpenvinoRunner
from objectives.runtimes.runner import Runner, import_runtime
from objectives.runtimes.tensorrt_runner import TensorrtRunner
from objectives.runtimes.torch_runner import TorchRunner
from objectives.runtimes.torchscript_runner import TorchscriptRunner
from objectives.ultralytics_door import load_module

__all__ = [
    "OPENINGS",
    "OPSET",
    "RUNTIMES",
    "Runner",
    "Runtime",
    "export_for_timing",
    "open_runner",
    "open_side",
]

_FILE_RUNNERS: Mapping[str, Callable[..., Runner]] = {
    "onnxruntime": OnnxRunner,
    "openvino": OpenvinoRunner,
    "tensorrt": TensorrtRunner,
    "torchscript": TorchscriptRunner,
    "ncnn": NcnnRunner,
    "mnn": MnnRunner,
    "litert": LitertRunner,
    "executorch": ExecutorchRunner,
}
OPENINGS = 6
"""Runners of one side: where each lies in memory is worth 0.4 to 2 % (docs/latency.md), so several are averaged."""
FEWEST_OPENINGS = 4
"""With two or three the interval over openings is so wide that it never settles."""
OPENING_S = 2.0
Artefact = Path | str | nn.Module


def open_runner(
    artefact: Artefact,
    *,
    runtime: str,
    imgsz: Size,
    device: str = "cpu",
    threads: int = 1,
    batch: int = 1,
    timeout_s: float = TIMEOUT_S,
) -> Runner:
    """Open the artefact on the runtime.

    A module, or a checkpoint (`.pt`), is copied, and for every runtime but torch exported by `export_for_timing`;
    files of the runtime's own format, and `.onnx` files where it reads those, are opened as they are. `threads` are
    those that compute one inference (CPU). The input is random, float32, of shape (batch, channels, height, width).
    `timeout_s` bounds one call of a `command:`.

    Raises `BackendMissing`, or `LatencyError` if the artefact cannot be opened or does not take that input.
    """
    return open_side(
        artefact, 1, runtime=runtime, imgsz=imgsz, device=device, threads=threads, batch=batch, timeout_s=timeout_s
    )[0]


def open_side(
    artefact: Artefact,
    count: int,
    *,
    runtime: str,
    imgsz: Size,
    device: str = "cpu",
    threads: int = 1,
    batch: int = 1,
    timeout_s: float = TIMEOUT_S,
) -> tuple[Runner, ...]:
    """Open one artefact up to `count` times: one side of `compare`. Parameters and errors as `open_runner`.

    The artefact is exported once. It is opened only once where `FEWEST_OPENINGS` openings would take more than
    `OPENING_S` seconds (a large model, an engine that is built), and for a `command:`, whose calls open the file.
    """
    check_runtime(runtime)
    if min(*sides(imgsz), threads, batch, count) < 1:
        raise LatencyError(f"Expected imgsz, threads and batch of at least 1, found {imgsz}, {threads}, {batch}.")
    if runtime == "torch":
        module = _module(artefact)
        return _opened(count, lambda: TorchRunner(module, imgsz=imgsz, device=device, threads=threads, batch=batch))
    if not is_command(runtime):
        import_runtime(runtime)  # before the export, which takes longer
    if is_command(runtime):
        return (_command(artefact, runtime, imgsz, threads, batch, timeout_s),)
    with held_folder("timing") as folder:
        path, opened = _as_file(artefact, folder, imgsz, batch, runtime), _FILE_RUNNERS[runtime]
        return _opened(count, lambda: opened(path, imgsz=imgsz, device=device, threads=threads, batch=batch))


def _opened(count: int, opened: Callable[[], Runner]) -> tuple[Runner, ...]:
    start, runners = time.perf_counter(), [opened()]
    took_s = time.perf_counter() - start
    affordable = int(OPENING_S / took_s)
    if affordable >= FEWEST_OPENINGS:
        runners += [opened() for _ in range(min(count, affordable) - 1)]
    return tuple(runners)


def _command(
    artefact: Artefact, runtime: str, imgsz: Size, threads: int, batch: int, timeout_s: float
) -> CommandRunner:
    """Open a `command:`; its file exists as long as the runner, since every call reads it."""
    folder = make_held_folder("timing")
    try:
        path = _as_file(artefact, folder, imgsz, batch, runtime)
        runner = CommandRunner(path, runtime=runtime, imgsz=imgsz, threads=threads, batch=batch, timeout_s=timeout_s)
    except BaseException:
        release(folder)
        raise
    weakref.finalize(runner, release, folder)
    return runner


def _as_file(artefact: Artefact, folder: Path, imgsz: Size, batch: int, runtime: str) -> Path:
    if isinstance(artefact, nn.Module) or Path(artefact).suffix == ".pt":
        path = folder / f"model{file_suffix(runtime)}"
        return export_for_timing(_module(artefact), path, imgsz=imgsz, batch=batch, runtime=runtime)
    path = _existing(Path(artefact))
    if path.suffix == ".onnx" and file_suffix(runtime) != ".onnx":
        raise LatencyError(f"{runtime} does not read {path}. Give it the checkpoint, or a {file_suffix(runtime)}.")
    return path


def _existing(path: Path) -> Path:
    if not path.exists():
        raise LatencyError(f"There is no artefact at {path}. Expected a .pt, .onnx, .engine or OpenVINO file.")
    return path


def _module(artefact: Artefact) -> nn.Module:
    if isinstance(artefact, nn.Module):
        return artefact
    path = _existing(Path(artefact))
    if path.suffix != ".pt":
        raise LatencyError(f"Runtime torch times a module or a .pt checkpoint, found {path}. Use runtime onnxruntime.")
    try:
        return load_module(path)
    except Exception as fault:
        raise LatencyError(f"{path} could not be loaded as an Ultralytics checkpoint: {fault}") from fault
