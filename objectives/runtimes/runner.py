"""The interface of runtimes, and their shared helpers: input, package import, description."""

from __future__ import annotations

import importlib
import platform
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from objectives.errors import BackendMissing, LatencyError
from objectives.image_size import Size, sides, size_of, written
from objectives.runtimes.names import module_of, pip_name

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Conditions = Mapping[str, str | int]
"""What a latency has to be reported with: runtime, version, device, threads, batch, imgsz, precision."""


class Runner(Protocol):
    """An opened model that can be timed."""

    def run(self) -> None:
        """Run one inference of one batch; complete on return."""

    def describe(self) -> Conditions:
        """Return the conditions that its latency is reported with."""


@runtime_checkable
class Computes(Protocol):
    """A runner whose outputs can be had: it is held against the module that its file was made from."""

    def outputs(self, image: Image) -> list[Image]:
        """Return the raw outputs for an image batch (batch, channels, height, width), as float32."""


@runtime_checkable
class SelfTimed(Protocol):
    """A runner with its own clock: the inference happens on another device, unless it says `is_here`."""

    def times_s(self) -> Floats:
        """Return the seconds of the inferences of one block, shape (at least 1,)."""


def import_runtime(name: str, part: str = "") -> Any:
    """Import the package of a runtime, or a part of it (`.interpreter`). Raises `BackendMissing` with the pip line."""
    module = module_of(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ExecuTorch says that it is experimental
            return importlib.import_module(f"{module}{part}")
    except ImportError as fault:
        line = f"pip install {pip_name(module)}"
        raise BackendMissing(pip_name(module), needed_for=f"runtime={name}", install=line) from fault


def cpu_only(runtime: str, device: str) -> None:
    """Raise `LatencyError` where a runtime that is measured on the processor is asked for another device."""
    if device != "cpu":
        raise LatencyError(f"runtime={runtime} is timed on the CPU here, found device={device}. Use device=cpu.")


def random_image(batch: int, channels: int, imgsz: Size) -> Image:
    """Return random image values, 0 to 1: zeros could be faster than images on some kernels, denormals slower."""
    return np.random.default_rng(0).random((batch, channels, *sides(imgsz)), dtype=np.float32)


def image_for(path: Path, shape: list[Any], imgsz: Size, batch: int) -> Image:
    """Return an input that the artefact accepts; `shape` may have free dimensions (anything but an int above 0)."""
    if len(shape) != 4:
        raise LatencyError(f"{path}: expected an image input of 4 dimensions, found {shape}.")
    sizes = [side if isinstance(side, int) and side > 0 else None for side in shape]
    wanted = (batch, sizes[1] or 3, *sides(imgsz))
    fixed = tuple(size or want for size, want in zip(sizes, wanted, strict=True))
    if fixed != wanted:
        raise LatencyError(
            f"{path} takes an input of {fixed}, but batch={batch} and imgsz={written(imgsz)} were asked for. Export it "
            f"with these."
        )
    return random_image(wanted[0], wanted[1], imgsz)


def describe(
    runtime: str, version: str, device: str, threads: int, shape: tuple[int, ...], precision: str = "fp32"
) -> Conditions:
    """Return the measuring conditions; `shape` is the input's, `precision` the number format of float layers."""
    return {
        "runtime": runtime,
        "version": version,
        "device": device,
        "threads": threads,
        "batch": shape[0],
        "imgsz": written(size_of(shape[-2:]) or shape[-1]),
        "precision": precision,
    }


def processor() -> str:
    """Return the name of this machine's processor, since latencies of different ones are not comparable."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
