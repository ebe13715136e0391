"""LiteRT (formerly TensorFlow Lite) with a pinned number of threads."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from objectives.errors import LatencyError
from objectives.image_size import Size
from objectives.runtimes.names import distribution_of
from objectives.runtimes.native_output import native_output
from objectives.runtimes.runner import Conditions, Image, cpu_only, describe, image_for, import_runtime


class LitertRunner:
    """An interpreter with its default delegate (XNNPACK). Boxes in files of Ultralytics are shares of the image."""

    def __init__(self, path: Path, *, imgsz: Size, device: str, threads: int, batch: int) -> None:
        cpu_only("litert", device)
        interpreter = import_runtime("litert", ".interpreter").Interpreter
        self._threads = threads
        try:
            with native_output():
                self._interpreter = interpreter(model_path=str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except Exception as fault:
            raise LatencyError(f"LiteRT cannot open {path}: {fault}") from fault
        given = self._interpreter.get_input_details()
        if len(given) != 1 or given[0]["dtype"] != np.float32:
            found = ", ".join(f"{one['name']}: {np.dtype(one['dtype'])}" for one in given)
            raise LatencyError(f"{path}: expected one float32 image input, found {found}.")
        self._place = int(given[0]["index"])
        self._input = image_for(path, [int(side) for side in given[0]["shape"]], imgsz, batch)
        self._found: list[dict[str, Any]] = self._interpreter.get_output_details()
        self.run()

    def run(self) -> None:
        self._interpreter.set_tensor(self._place, self._input)
        self._interpreter.invoke()

    def outputs(self, image: Image) -> list[Image]:
        self._interpreter.set_tensor(self._place, image)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_tensor(one["index"]), dtype=np.float32) for one in self._found]

    def describe(self) -> Conditions:
        return describe("litert", version(distribution_of("litert")), "cpu", self._threads, self._input.shape)
