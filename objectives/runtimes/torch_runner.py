"""Eager PyTorch, on the CPU or a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from objectives.errors import BackendMissing, LatencyError
from objectives.image_size import Size
from objectives.runtimes.runner import Conditions, Image, describe, random_image
from objectives.ultralytics_door import is_ultralytics, quiet, twin_of


class TorchRunner:
    """Eager PyTorch, fused as Ultralytics deploys it, in inference mode."""

    def __init__(self, model: nn.Module, *, imgsz: Size, device: str, threads: int, batch: int) -> None:
        self._device = torch_device(device)
        twin = twin_of(model)
        if is_ultralytics(model):
            with quiet():
                twin = twin.fuse(verbose=False)
        self._model: nn.Module = twin.eval().float().to(self._device)
        self._input = torch.from_numpy(random_image(batch, input_channels(model), imgsz)).to(self._device)
        self._threads = threads
        try:
            self.run()
        except Exception as fault:
            raise LatencyError(f"The model does not take an input of {tuple(self._input.shape)}: {fault}") from fault

    def run(self) -> None:
        if torch.get_num_threads() != self._threads:  # global to the process, and others set it too
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            self._model(self._input)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def outputs(self, image: Image) -> list[Image]:
        with torch.inference_mode():
            found = self._model(torch.from_numpy(image).to(self._device))
        return [part.float().cpu().numpy() for part in tensors_in(found)]

    def describe(self) -> Conditions:
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "cpu"
        return describe("torch", torch.__version__, name, self._threads, tuple(self._input.shape))


def tensors_in(output: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of a network's output, however they are nested."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from (part for value in output.values() for part in tensors_in(value))
    elif isinstance(output, (list, tuple)):
        yield from (part for value in output for part in tensors_in(value))


def torch_device(device: str) -> torch.device:
    name = f"cuda:{device}" if device.isdigit() else device
    try:
        found = torch.device(name)
    except RuntimeError as fault:
        raise LatencyError(f"Unknown device {device!r}. Expected cpu, cuda or a GPU number.") from fault
    if found.type == "cuda" and not torch.cuda.is_available():
        raise BackendMissing(
            "A CUDA device",
            needed_for=f"device={device}",
            install="pip install torch (a CUDA build), or use device=cpu",
        )
    return found


def input_channels(model: Any) -> int:
    """Return the input channels: those that the model or its YAML declares, else the first convolution's, else 3."""
    said = getattr(model, "input_channels", None)
    if isinstance(said, int):
        return said
    recipe = getattr(model, "yaml", None)
    if isinstance(recipe, dict) and "channels" in recipe:
        return int(recipe["channels"])
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    return first.in_channels if first is not None else 3
