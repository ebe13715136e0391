"""ncnn with a pinned number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from objectives.errors import LatencyError
from objectives.image_size import Size
from objectives.runtimes.edge.declared import FREE, declared_input, only_file
from objectives.runtimes.names import distribution_of
from objectives.runtimes.native_output import native_output
from objectives.runtimes.runner import Conditions, Image, cpu_only, describe, image_for, import_runtime

HALF_WEIGHTS = b"\x47\x6b\x30\x01"
"""What a .bin with half-precision weights begins with (0x01306B47, ncnn's ModelBinFromDataReader)."""
_HALF_OPTIONS = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")


class NcnnRunner:
    """An ncnn network.

    ncnn has no batch: a batch is as many inferences, one after the other, as in Ultralytics' own backend. Where the
    processor has half-precision arithmetic ncnn uses it also for float32 weights; as with OpenVINO, the time of one
    number format beside the accuracy of another would be a figure of no model, so a file of float32 weights is
    computed in float32. One of half-precision weights is computed as ncnn likes.
    """

    def __init__(self, path: Path, *, imgsz: Size, device: str, threads: int, batch: int) -> None:
        cpu_only("ncnn", device)
        self._ncnn, self._threads = import_runtime("ncnn"), threads
        graph = only_file(path, "*.param")
        weights = graph.with_suffix(".bin")
        self._shape = image_for(path, [FREE, *declared_input(path)[1:]], imgsz, batch).shape
        self._half = _begins_with(weights, HALF_WEIGHTS)
        with native_output() as said:
            self._net = self._ncnn.Net()
            self._set_options(self._net.opt)
            is_open = self._net.load_param(str(graph)) == 0 and self._net.load_model(str(weights)) == 0
        if not is_open:
            raise LatencyError(f"ncnn cannot open {path}: {said.last_lines()}")
        self._names: list[str] = sorted(self._net.output_names())
        # cloned: a layer that works in place may write into memory that ncnn does not own
        self._inputs = [self._ncnn.Mat(one).clone() for one in image_for(path, [FREE] * 4, imgsz, batch)]
        self.run()

    def _set_options(self, options: Any) -> None:
        options.num_threads = self._threads
        options.use_vulkan_compute = False
        if not self._half:
            for name in _HALF_OPTIONS:
                setattr(options, name, False)

    def run(self) -> None:
        for image in self._inputs:
            for _ in self._extracted(image):
                pass

    def _extracted(self, image: Any) -> Iterator[Any]:
        with self._net.create_extractor() as extractor:
            extractor.input(self._net.input_names()[0], image)
            for name in self._names:
                code, found = extractor.extract(name)
                if code != 0:
                    raise LatencyError(f"ncnn cannot compute {name} of an input of {self._shape}: code {code}.")
                yield found

    def outputs(self, image: Image) -> list[Image]:
        rows = [[np.array(part) for part in self._extracted(self._ncnn.Mat(one).clone())] for one in image]
        return [np.stack(parts) for parts in zip(*rows, strict=True)]

    def describe(self) -> Conditions:
        from importlib.metadata import version

        precision = "fp16" if self._half else "fp32"
        return describe("ncnn", version(distribution_of("ncnn")), "cpu", self._threads, self._shape, precision)


def _begins_with(path: Path, mark: bytes) -> bool:
    if not path.is_file():
        raise LatencyError(f"There are no weights at {path}, beside the graph.")
    with path.open("rb") as file:
        return file.read(len(mark)) == mark
