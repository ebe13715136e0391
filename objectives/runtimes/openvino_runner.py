"""OpenVINO, compiled for latency with a pinned number of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from objectives.errors import LatencyError
from objectives.image_size import Size
from objectives.runtimes.runner import Conditions, Image, describe, image_for, import_runtime


class OpenvinoRunner:
    """A compiled model and its inference request.

    Where the CPU has bfloat16 (AVX512-BF16, AMX), OpenVINO computes float32 models in it by default. That would combine
    the latency of one number format with the accuracy of another, so float32 is forced on the CPU; layers that a file
    holds in INT8 stay INT8. On other devices the plugin's choice stands. The format in use is read back from the
    compiled model into `describe()`.
    """

    def __init__(self, path: Path, *, imgsz: Size, device: str, threads: int, batch: int) -> None:
        self._openvino = import_runtime("openvino")
        self._threads = threads
        self._device = device.upper()
        source = next(iter(sorted(path.glob("*.xml"))), path) if path.is_dir() else path
        try:
            model = self._openvino.Core().read_model(str(source))
            shape = [d.get_length() if d.is_static else "any" for d in model.input(0).partial_shape]
            self._input = image_for(path, shape, imgsz, batch)
            self._compiled = self._openvino.compile_model(model, self._device, self._options())
            self._request = self._compiled.create_infer_request()
        except LatencyError:
            raise
        except Exception as fault:
            raise LatencyError(f"OpenVINO cannot open {path} on {self._device}: {fault}") from fault

    def _options(self) -> dict[str, Any]:
        options = {"PERFORMANCE_HINT": "LATENCY"}
        if self._device == "CPU":
            options |= {"INFERENCE_NUM_THREADS": str(self._threads), "INFERENCE_PRECISION_HINT": "f32"}
        return options

    def run(self) -> None:
        self._request.infer([self._input], share_inputs=True, share_outputs=True)

    def outputs(self, image: Image) -> list[Image]:
        return [np.array(part) for part in self._request.infer([image]).values()]

    def describe(self) -> Conditions:
        version, device = str(self._openvino.__version__), self._device.lower()
        hint = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        precision = {"f32": "fp32", "f16": "fp16"}.get(hint, hint)
        return describe("openvino", version, device, self._threads, self._input.shape, precision)
