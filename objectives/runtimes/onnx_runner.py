"""ONNX Runtime with a pinned number of threads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from objectives.errors import BackendMissing, LatencyError
from objectives.image_size import Size
from objectives.runtimes.runner import Conditions, Image, describe, image_for, import_runtime


class OnnxRunner:
    """An ONNX Runtime session of one file."""

    def __init__(self, path: Path, *, imgsz: Size, device: str, threads: int, batch: int) -> None:
        self._ort = import_runtime("onnxruntime")
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
        self._feed = {given[0].name: image_for(path, given[0].shape, imgsz, batch)}

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

    def outputs(self, image: Image) -> list[Image]:
        return list(self._session.run(None, dict.fromkeys(self._feed, image)))

    def describe(self) -> Conditions:
        device = self._session.get_providers()[0].removesuffix("ExecutionProvider").lower()
        (image,) = self._feed.values()
        return describe("onnxruntime", self._ort.__version__, device, self._threads, image.shape)
