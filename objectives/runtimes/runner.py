"""What can be timed, and what every runtime needs to become that: an input, a package, a description."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from objectives.errors import BackendMissing, LatencyError

Floats = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
Conditions = Mapping[str, str | int]
"""What a latency has to be reported with: runtime, version, device, threads, batch, imgsz, precision."""


class Runner(Protocol):
    """Something that can be timed."""

    def run(self) -> None:
        """One inference of one batch, complete when it returns."""

    def describe(self) -> Conditions:
        """What its latency has to be reported with."""


@runtime_checkable
class SelfTimed(Protocol):
    """A runner that reads a clock of its own: the inference happens on another device."""

    def times_s(self) -> Floats:
        """Seconds of the inferences of one block, shape (at least 1,)."""


def import_runtime(name: str, install: str | None = None) -> Any:
    """The package of a runtime. Raises `BackendMissing` with the line that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError as fault:
        line = install or f"pip install {name}"
        raise BackendMissing(name, needed_for=f"runtime={name}", install=line) from fault


def random_image(batch: int, channels: int, imgsz: int) -> Image:
    """Values of an image, 0 to 1: zeros could be faster than images on some kernels, denormals slower."""
    return np.random.default_rng(0).random((batch, channels, imgsz, imgsz), dtype=np.float32)


def image_for(path: Path, shape: list[Any], imgsz: int, batch: int) -> Image:
    """The input that the artefact takes; `shape` may have free dimensions (anything but an int above 0)."""
    if len(shape) != 4:
        raise LatencyError(f"{path}: expected an image input of 4 dimensions, found {shape}.")
    sizes = [side if isinstance(side, int) and side > 0 else None for side in shape]
    wanted = (batch, sizes[1] or 3, imgsz, imgsz)
    fixed = tuple(size or want for size, want in zip(sizes, wanted, strict=True))
    if fixed != wanted:
        raise LatencyError(
            f"{path} takes an input of {fixed}, but batch={batch} and imgsz={imgsz} were asked for. Export it "
            f"with these."
        )
    return random_image(wanted[0], wanted[1], imgsz)


def describe(
    runtime: str, version: str, device: str, threads: int, shape: tuple[int, ...], precision: str = "fp32"
) -> Conditions:
    """`shape` is that of the input, `precision` the format in which float layers are computed."""
    return {
        "runtime": runtime,
        "version": version,
        "device": device,
        "threads": threads,
        "batch": shape[0],
        "imgsz": shape[-1],
        "precision": precision,
    }


def processor() -> str:
    """The name of this machine's processor: figures of another one are other figures."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
