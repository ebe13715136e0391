"""TensorRT: an engine built here from an ONNX file, or a prebuilt one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from objectives.errors import BackendMissing, LatencyError
from objectives.image_size import Size
from objectives.runtimes.runner import Conditions, describe, image_for, import_runtime
from objectives.runtimes.torch_runner import torch_device


class TensorrtRunner:
    """An execution context with its tensors on the GPU: transfers are not counted.

    Engines hold what the builder chose on this very GPU. TF32 stays on, as it is in PyTorch's and ONNX Runtime's
    convolutions: the accuracy that Ultralytics validates on a GPU is that of TF32 too.
    """

    def __init__(self, path: Path, *, imgsz: Size, device: str, threads: int, batch: int) -> None:
        self._trt = import_runtime("tensorrt")
        self._device = torch_device("0" if device in ("cpu", "auto") else device)
        if not torch.cuda.is_available():
            raise BackendMissing("A CUDA device", needed_for="runtime=tensorrt", install="use runtime=onnxruntime")
        self._threads = threads
        try:
            with torch.cuda.device(self._device):
                self._open(path, imgsz, batch)
        except LatencyError:
            raise
        except Exception as fault:
            raise LatencyError(f"TensorRT cannot open {path}: {fault}") from fault

    def _open(self, path: Path, imgsz: Size, batch: int) -> None:
        logger = self._trt.Logger(self._trt.Logger.ERROR)
        plan = plan_of(path) if path.suffix == ".engine" else self._build(path, logger)
        self._engine = self._trt.Runtime(logger).deserialize_cuda_engine(plan)
        if self._engine is None:
            raise LatencyError(f"{path} is not an engine of this TensorRT ({self._trt.__version__}) and this GPU.")
        self._context = self._engine.create_execution_context()
        self._stream = torch.cuda.Stream(self._device)
        self._tensors = [self._bind(index, path, imgsz, batch) for index in range(self._engine.num_io_tensors)]

    def _build(self, path: Path, logger: Any) -> Any:
        builder = self._trt.Builder(logger)
        network = builder.create_network(0)
        parser = self._trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(path)):
            raise LatencyError(f"TensorRT cannot read {path}: {parser.get_error(0).desc()}")
        plan = builder.build_serialized_network(network, builder.create_builder_config())
        if plan is None:
            raise LatencyError(f"TensorRT could not build an engine of {path}.")
        return plan

    def _bind(self, index: int, path: Path, imgsz: Size, batch: int) -> torch.Tensor:
        name = self._engine.get_tensor_name(index)
        shape = list(self._engine.get_tensor_shape(name))
        if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT:
            image = image_for(path, shape, imgsz, batch)
            self._shape = image.shape
            self._context.set_input_shape(name, image.shape)
            tensor = torch.from_numpy(image).to(self._device)
        else:
            kind = torch.from_numpy(self._trt.nptype(self._engine.get_tensor_dtype(name))(0).reshape(1)).dtype
            tensor = torch.empty(tuple(self._context.get_tensor_shape(name)), dtype=kind, device=self._device)
        self._context.set_tensor_address(name, tensor.data_ptr())
        return tensor

    def run(self) -> None:
        self._context.execute_async_v3(self._stream.cuda_stream)
        self._stream.synchronize()

    def describe(self) -> Conditions:
        device = torch.cuda.get_device_name(self._device)
        return describe("tensorrt", str(self._trt.__version__), device, self._threads, self._shape, "tf32")


def plan_of(path: Path) -> bytes:
    """Read the engine in a file, skipping the length-prefixed metadata that Ultralytics writes before it."""
    content = path.read_bytes()
    end = 4 + int.from_bytes(content[:4], "little")
    try:
        json.loads(content[4:end])
    except ValueError:
        return content
    return content[end:]
