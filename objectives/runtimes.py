"""What is timed: one inference of an artefact on a runtime, its input already in place.

Every runtime is a `Runner`; `open_runner` is the way to one. Its package is imported only then, so that a
missing one is `BackendMissing` with the line that installs it, for the runtime that needs it and nobody else.
"""

from __future__ import annotations

import difflib
import importlib
import os
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from objectives.errors import BackendMissing, LatencyError
from objectives.ultralytics_door import is_ultralytics, load_module, quiet, twin_of

Runtime = Literal["onnxruntime", "torch", "openvino"]
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "torch", "openvino")
OPSET = 18
"""ONNX opset, pinned: the highest whose operators ONNX Runtime has on all of its devices, and Ultralytics'
own choice."""


class Runner(Protocol):
    """Something that can be timed."""

    def run(self) -> None:
        """One inference of one batch, complete when it returns."""

    def describe(self) -> Mapping[str, str | int]:
        """What a latency has to be reported with: runtime, version, device, threads, batch."""


def open_runner(
    artefact: Path | str | nn.Module,
    *,
    runtime: Runtime,
    imgsz: int,
    device: str = "cpu",
    threads: int = 1,
    batch: int = 1,
) -> Runner:
    """A runner of the artefact on the runtime.

    A module, or a checkpoint (`.pt`), is copied, and for onnxruntime and openvino exported by
    `export_for_timing`; `.onnx` files, and `.xml` files or folders of OpenVINO, are opened as they are.
    `threads` are those that compute one inference (CPU). The input is random, float32, of shape (batch,
    channels, imgsz, imgsz).

    Raises `BackendMissing`, or `LatencyError` if the artefact cannot be opened or does not take that input.
    """
    if runtime not in RUNTIMES:
        near = difflib.get_close_matches(str(runtime), RUNTIMES, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise LatencyError(f"Unknown runtime {runtime!r}. {hint}Expected one of: {', '.join(RUNTIMES)}.")
    if min(imgsz, threads, batch) < 1:
        raise LatencyError(f"Expected imgsz, threads and batch of at least 1, found {imgsz}, {threads}, {batch}.")
    if runtime == "torch":
        return _TorchRunner(_module(artefact), imgsz=imgsz, device=device, threads=threads, batch=batch)
    opened = _OnnxRunner if runtime == "onnxruntime" else _OpenvinoRunner
    if isinstance(artefact, nn.Module) or Path(artefact).suffix == ".pt":
        _import_runtime(runtime)  # before the export, which takes longer
        with tempfile.TemporaryDirectory(prefix="paretoprune-timing-") as folder:
            path = export_for_timing(_module(artefact), Path(folder) / "model.onnx", imgsz=imgsz, batch=batch)
            return opened(path, imgsz=imgsz, device=device, threads=threads, batch=batch)
    return opened(_existing(Path(artefact)), imgsz=imgsz, device=device, threads=threads, batch=batch)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise LatencyError(f"There is no artefact at {path}. Expected a .pt, .onnx or OpenVINO file.")
    return path


def _module(artefact: Path | str | nn.Module) -> nn.Module:
    if isinstance(artefact, nn.Module):
        return artefact
    path = _existing(Path(artefact))
    if path.suffix != ".pt":
        raise LatencyError(f"Runtime torch times a module or a .pt checkpoint, found {path}. Use runtime onnxruntime.")
    try:
        return load_module(path)
    except Exception as fault:
        raise LatencyError(f"{path} could not be loaded as an Ultralytics checkpoint: {fault}") from fault


def _import_runtime(runtime: Runtime) -> Any:
    try:
        return importlib.import_module(runtime)
    except ImportError as fault:
        raise BackendMissing(runtime, needed_for=f"runtime={runtime}", install=f"pip install {runtime}") from fault


def _random_input(batch: int, channels: int, imgsz: int) -> npt.NDArray[np.float32]:
    """Values of an image, 0 to 1: zeros could be faster than images on some kernels, denormals slower."""
    return np.random.default_rng(0).random((batch, channels, imgsz, imgsz), dtype=np.float32)


class _TorchRunner:
    """Eager PyTorch, fused as Ultralytics deploys it, in inference mode."""

    def __init__(self, model: nn.Module, *, imgsz: int, device: str, threads: int, batch: int) -> None:
        self._device = _torch_device(device)
        twin = twin_of(model)
        if is_ultralytics(model):
            with quiet():
                twin = twin.fuse(verbose=False)
        self._model: nn.Module = twin.eval().float().to(self._device)
        self._input = torch.from_numpy(_random_input(batch, _channels(model), imgsz)).to(self._device)
        self._threads = threads
        try:
            self.run()
        except Exception as fault:
            raise LatencyError(f"The model does not take an input of {tuple(self._input.shape)}: {fault}") from fault

    def run(self) -> None:
        if torch.get_num_threads() != self._threads:  # global to the process, and others set it too
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            self._model(self._input)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def describe(self) -> Mapping[str, str | int]:
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        return _description("torch", torch.__version__, name, self._threads, tuple(self._input.shape))


def _torch_device(device: str) -> torch.device:
    name = f"cuda:{device}" if device.isdigit() else device
    try:
        found = torch.device(name)
    except RuntimeError as fault:
        raise LatencyError(f"Unknown device {device!r}. Expected cpu, cuda or a GPU number.") from fault
    if found.type == "cuda" and not torch.cuda.is_available():
        raise BackendMissing(
            "A CUDA device",
            needed_for=f"device={device}",
            install="pip install torch (a CUDA build), or use device=cpu",
        )
    return found


class _OnnxRunner:
    """ONNX Runtime with a pinned number of threads."""

    def __init__(self, path: Path, *, imgsz: int, device: str, threads: int, batch: int) -> None:
        self._ort = _import_runtime("onnxruntime")
        self._device = device
        self._threads = threads
        try:
            self._session = self._ort.InferenceSession(str(path), self._options(), providers=self._providers())
        except BackendMissing:
            raise
        except Exception as fault:
            raise LatencyError(f"ONNX Runtime cannot open {path}: {fault}") from fault
        given = self._session.get_inputs()
        if len(given) != 1 or given[0].type != "tensor(float)":
            found = ", ".join(f"{i.name}: {i.type}" for i in given)
            raise LatencyError(f"{path}: expected one float32 image input, found {found}.")
        self._feed = {given[0].name: _input_for(path, given[0].shape, imgsz, batch)}

    def _options(self) -> Any:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = self._ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        # Threads may spin within an inference, as when deployed, but not on into the other model's turn.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options

    def _providers(self) -> list[str]:
        if self._device == "cpu":
            return ["CPUExecutionProvider"]
        if "CUDAExecutionProvider" not in self._ort.get_available_providers():
            raise BackendMissing(
                "onnxruntime-gpu",
                needed_for=f"runtime=onnxruntime device={self._device}",
                install="pip install onnxruntime-gpu",
            )
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run(self) -> None:
        self._session.run(None, self._feed)

    def describe(self) -> Mapping[str, str | int]:
        device = self._session.get_providers()[0].removesuffix("ExecutionProvider").lower()
        (image,) = self._feed.values()
        return _description("onnxruntime", self._ort.__version__, device, self._threads, image.shape)


class _OpenvinoRunner:
    """OpenVINO, compiled for latency with a pinned number of threads."""

    def __init__(self, path: Path, *, imgsz: int, device: str, threads: int, batch: int) -> None:
        self._openvino = _import_runtime("openvino")
        self._threads = threads
        self._device = device.upper()
        source = next(iter(sorted(path.glob("*.xml"))), path) if path.is_dir() else path
        options = {"PERFORMANCE_HINT": "LATENCY"}
        if self._device == "CPU":
            options["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            model = self._openvino.Core().read_model(str(source))
            shape = [d.get_length() if d.is_static else "any" for d in model.input(0).partial_shape]
            self._input = _input_for(path, shape, imgsz, batch)
            self._request = self._openvino.compile_model(model, self._device, options).create_infer_request()
        except LatencyError:
            raise
        except Exception as fault:
            raise LatencyError(f"OpenVINO cannot open {path} on {self._device}: {fault}") from fault

    def run(self) -> None:
        self._request.infer([self._input], share_inputs=True, share_outputs=True)

    def describe(self) -> Mapping[str, str | int]:
        version = self._openvino.__version__
        return _description("openvino", version, self._device.lower(), self._threads, self._input.shape)


def _description(
    runtime: str, version: str, device: str, threads: int, shape: tuple[int, ...]
) -> Mapping[str, str | int]:
    return {
        "runtime": runtime,
        "version": version,
        "device": device,
        "threads": threads,
        "batch": shape[0],
        "imgsz": shape[-1],
    }


def _input_for(path: Path, shape: list[Any], imgsz: int, batch: int) -> npt.NDArray[np.float32]:
    """The input that the artefact takes; `shape` may have free dimensions (anything but an int)."""
    if len(shape) != 4:
        raise LatencyError(f"{path}: expected an image input of 4 dimensions, found {shape}.")
    wanted = (batch, shape[1] if isinstance(shape[1], int) else 3, imgsz, imgsz)
    fixed = tuple(s if isinstance(s, int) else w for s, w in zip(shape, wanted, strict=True))
    if fixed != wanted:
        raise LatencyError(
            f"{path} takes an input of {fixed}, but batch={batch} and imgsz={imgsz} were asked for. Export "
            f"it with these."
        )
    return _random_input(wanted[0], wanted[1], imgsz)


def _channels(model: nn.Module) -> int:
    """Input channels: from the YAML of an Ultralytics model, else from the first convolution, else 3."""
    recipe = getattr(model, "yaml", None)
    if isinstance(recipe, dict) and "channels" in recipe:
        return int(recipe["channels"])
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return first.in_channels if first is not None else 3


def export_for_timing(model: nn.Module, path: Path, *, imgsz: int, batch: int = 1) -> Path:
    """Write the plain ONNX graph of the module to `path`, and return `path`.

    Ultralytics models go through Ultralytics' own exporter with `simplify=False` (ONNX Runtime optimises the
    graph by itself), everything else through `torch.onnx.export`. The given module is not changed, nothing is
    downloaded or installed, no other file is written; an existing `path` is replaced as a whole. Shapes are
    static.

    Raises `LatencyError`: a suffix other than .onnx, an `imgsz` that the model's stride does not divide, or
    an export that failed.
    """
    if path.suffix != ".onnx":
        raise LatencyError(f"Expected a path that ends in .onnx, found {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".exporting-") as folder:
        target = Path(folder) / "model.onnx"
        write = _export_ultralytics if is_ultralytics(model) else _export_plain
        try:
            write(model, target, imgsz, batch)
        except LatencyError:
            raise
        except Exception as fault:
            raise LatencyError(
                f"{type(model).__name__} could not be exported to ONNX at imgsz={imgsz}: {fault}"
            ) from fault
        os.replace(target, path)
    return path


def _export_ultralytics(model: nn.Module, target: Path, imgsz: int, batch: int) -> None:
    from ultralytics.engine.exporter import Exporter

    twin = twin_of(model)
    stride = int(max(twin.stride))
    if imgsz % stride:
        raise LatencyError(
            f"imgsz={imgsz} is not a multiple of the model's stride {stride}; Ultralytics would round it up."
        )
    twin.pt_path = str(target.with_suffix(".pt"))  # the exporter writes beside the checkpoint, which need not exist
    with quiet():
        exporter = Exporter(
            overrides={
                "format": "onnx",
                "imgsz": imgsz,
                "batch": batch,
                "simplify": False,
                "opset": OPSET,
                "device": "cpu",
                "dynamic": False,
            }
        )
        exporter(model=twin)


def _export_plain(model: nn.Module, target: Path, imgsz: int, batch: int) -> None:
    twin = cast(nn.Module, twin_of(model)).eval().float().cpu()
    image = torch.from_numpy(_random_input(batch, _channels(model), imgsz))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            twin,
            (image,),
            str(target),
            opset_version=OPSET,
            input_names=["images"],
            output_names=["output0"],
            dynamo=False,
        )
