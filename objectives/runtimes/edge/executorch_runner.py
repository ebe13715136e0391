"""ExecuTorch, with XNNPACK where the file was lowered to it, and a pinned number of threads."""

from __future__ import annotations

import weakref
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from objectives.errors import LatencyError
from objectives.image_size import Size
from objectives.runtimes.edge.declared import only_file
from objectives.runtimes.names import distribution_of
from objectives.runtimes.native_output import native_output
from objectives.runtimes.runner import Conditions, Image, cpu_only, describe, image_for, import_runtime

_OPEN: weakref.WeakSet[ExecutorchRunner] = weakref.WeakSet()


class ExecutorchRunner:
    """The method `forward` of a program."""

    def __init__(self, path: Path, *, imgsz: Size, device: str, threads: int, batch: int) -> None:
        cpu_only("executorch", device)
        self._threads, file = threads, only_file(path, "*.pte")
        with native_output() as said:
            runtime = import_runtime("executorch", ".runtime").Runtime.get()
            _set_threads(threads)
            _OPEN.add(self)
            try:
                self._program = runtime.load_program(str(file))  # kept: the method lies in its memory
                self._method: Any = self._program.load_method("forward")
            except RuntimeError:
                self._method = None
        if self._method is None:
            raise LatencyError(f"ExecuTorch cannot open {path}: {said.last_lines()}")
        given = self._method.metadata
        if given.num_inputs() != 1:
            raise LatencyError(f"{path}: expected one image input, found {given.num_inputs()}.")
        shape = list(given.input_tensor_meta(0).sizes())
        self._input = torch.from_numpy(image_for(path, shape, imgsz, batch))
        self.run()

    def run(self) -> None:
        self._method.execute([self._input])

    def outputs(self, image: Image) -> list[Image]:
        return [part.float().numpy().copy() for part in self._method.execute([torch.from_numpy(image)])]

    def describe(self) -> Conditions:
        found = version(distribution_of("executorch"))
        return describe("executorch", found, "cpu", self._threads, tuple(self._input.shape))


def _set_threads(threads: int) -> None:
    """Set the size of ExecuTorch's pool, of which a process has one.

    Loaded programs hold the pool that they were loaded with: a new one under them ends the process.
    """
    pool = import_runtime("executorch", ".extension.pybindings.portable_lib")
    has = pool._threadpool_get_thread_count()
    if has == threads:
        return
    if _OPEN:
        raise LatencyError(f"ExecuTorch runs with {has} threads in this process, found threads={threads}.")
    pool._unsafe_reset_threadpool(threads)
