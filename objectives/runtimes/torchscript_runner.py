"""TorchScript: a traced graph, which PyTorch runs without the code of the model."""

from __future__ import annotations

from pathlib import Path

import torch

from objectives.errors import LatencyError
from objectives.image_size import Size
from objectives.runtimes.edge.declared import declared_input
from objectives.runtimes.runner import Conditions, Image, cpu_only, describe, image_for
from objectives.runtimes.torch_runner import tensors_in
from objectives.ultralytics_door import quiet

PROFILED_RUNS = 3
"""The first runs profile the graph and compile it."""


class TorchscriptRunner:
    """A TorchScript file on the CPU."""

    def __init__(self, path: Path, *, imgsz: Size, device: str, threads: int, batch: int) -> None:
        cpu_only("torchscript", device)
        self._threads = threads
        self._input = torch.from_numpy(image_for(path, declared_input(path), imgsz, batch))
        try:
            with quiet():
                self._module = torch.jit.load(str(path), map_location="cpu").eval()
            for _ in range(PROFILED_RUNS):
                self.run()
        except Exception as fault:
            raise LatencyError(f"TorchScript cannot open or run {path}: {fault}") from fault

    def run(self) -> None:
        self._forward(self._input)

    def _forward(self, image: torch.Tensor) -> object:
        if torch.get_num_threads() != self._threads:  # global to the process, and others set it too
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            return self._module(image)

    def outputs(self, image: Image) -> list[Image]:
        return [part.float().numpy() for part in tensors_in(self._forward(torch.from_numpy(image)))]

    def describe(self) -> Conditions:
        return describe("torchscript", torch.__version__, "cpu", self._threads, tuple(self._input.shape))
