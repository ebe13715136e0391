"""MNN with a pinned number of threads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from objectives.errors import LatencyError
from objectives.runtimes.native_output import native_output
from objectives.runtimes.runner import Conditions, Image, cpu_only, describe, image_for, import_runtime

_TELEMETRY = "MNN.tools.utils.log"


class MnnRunner:
    """A module of MNN's expression interface. Float32 on every processor: `precision: low` would be half on ARM."""

    def __init__(self, path: Path, *, imgsz: int, device: str, threads: int, batch: int) -> None:
        cpu_only("mnn", device)
        self._threads = threads
        with native_output() as said:
            self._mnn, self._expr, neural = (import_runtime("mnn", part) for part in ("", ".expr", ".nn"))
            config = {"backend": "CPU", "precision": "high", "numThread": threads}
            self._manager = neural.create_runtime_manager((config,))
            options = {"runtime_manager": self._manager, "rearrange": True}
            try:
                self._net: Any = neural.load_module_from_file(str(path), [], [], **options)
            except SystemError:  # MNN sets no message, but prints one
                self._net = None
        if self._net is None:
            raise LatencyError(f"MNN cannot open {path}: {said.last_lines()}")
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
        return describe("mnn", str(self._mnn.version()), "cpu", self._threads, self._shape)


def without_telemetry() -> None:
    """Keep MNN's converter from what it does when it is imported, on a machine whose owner was not asked.

    MNN 3.6 runs `pip install aliyun-log-python-sdk` in the first Python on the PATH, and reports conversions to a
    server. It goes on without that module, so the module is made to be missing.
    """
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
