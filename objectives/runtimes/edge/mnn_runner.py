"""MNN with a pinned number of threads."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from objectives.errors import LatencyError
from objectives.image_size import Size
from objectives.runtimes.native_output import native_output
from objectives.runtimes.runner import Conditions, Image, cpu_only, describe, image_for, import_runtime

_TELEMETRY = "MNN.tools.utils.log"


class MnnRunner:
    """A module of MNN's expression interface.

    MNN computes in half precision where the processor can and `precision: low` allows it. A float32 file is computed in
    float32, as on every runtime here; one that was exported in half precision may be.
    """

    def __init__(self, path: Path, *, imgsz: Size, device: str, threads: int, batch: int) -> None:
        cpu_only("mnn", device)
        self._threads, self._half = threads, False
        self._net, self._manager = _opened(path, threads, "high")
        if _quantize_of(self._net) == 16:
            self._half = True
            self._net, self._manager = _opened(path, threads, "low")
        self._mnn, self._expr = import_runtime("mnn"), import_runtime("mnn", ".expr")
        image = image_for(path, list(self._net.get_info()["inputs"][0].shape), imgsz, batch)
        self._shape, self._input = image.shape, self._expr.const(image, image.shape)
        self.run()

    def run(self) -> None:
        for part in self._net.onForward([self._input]):
            part.read()  # MNN is lazy

    def outputs(self, image: Image) -> list[Image]:
        given = self._expr.const(np.ascontiguousarray(image), image.shape)
        return [np.array(part.read()) for part in self._net.onForward([given])]

    def describe(self) -> Conditions:
        precision = "fp16" if self._half else "fp32"
        return describe("mnn", str(self._mnn.version()), "cpu", self._threads, self._shape, precision)


def _opened(path: Path, threads: int, precision: str) -> tuple[Any, Any]:
    """Return the module, and the runtime manager that has to live as long. Raises `LatencyError`."""
    with native_output() as said:
        neural = import_runtime("mnn", ".nn")
        manager = neural.create_runtime_manager(({"backend": "CPU", "precision": precision, "numThread": threads},))
        try:
            return neural.load_module_from_file(str(path), [], [], runtime_manager=manager, rearrange=True), manager
        except SystemError:  # MNN sets no message, but prints one
            pass
    raise LatencyError(f"MNN cannot open {path}: {said.last_lines()}")


def _quantize_of(net: Any) -> object:
    """Return the `quantize` of the export, from the metadata that Ultralytics writes; None if there are none."""
    try:
        return json.loads(net.get_info().get("bizCode") or "{}").get("args", {}).get("quantize")
    except (ValueError, AttributeError):
        return None


def mnn_input(path: Path) -> list[int]:
    """Return the input shape that an MNN file says. Raises `LatencyError` and `BackendMissing`."""
    return list(_opened(path, 1, "high")[0].get_info()["inputs"][0].shape)


def without_telemetry() -> None:
    """Keep MNN's converter from what it does when it is imported, on a machine whose owner was not asked.

    MNN 3.6 runs `pip install aliyun-log-python-sdk` in the first Python on the PATH, and reports conversions to a
    server. It goes on without that module, so the module is made to be missing.
    """
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
