"""Latency of one artefact, interleaved with the base's float32 file of the same format.

This separates the effect of pruning and quantising from that of the runtime; the eager PyTorch model is timed in the
same rounds, as a reference for its users.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from objectives.image_size import Size, sides, size_of, written
from objectives.runtimes.names import SUFFIXES, is_command
from objectives.runtimes.runner import Runner
from objectives.ultralytics_door import quiet
from search.config.sections import LatencySpec
from search.evaluate.timing.latency import measure, open_timed
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.export.formats import Format


def time_artefact(
    path: Path,
    form: Format,
    base: Path,
    model: Path,
    imgsz: Size,
    spec: LatencySpec,
    turns: MeasurementLock,
    batch: int = 1,
) -> dict[str, Any]:
    """Measure milliseconds and ratios, with their 95 % intervals, by the protocol of the search.

    Args:
        base: the base's float32 artefact of the same format.
        model: the exported checkpoint, run by eager PyTorch.
        batch: images of one inference.

    Raises:
        LatencyError, BackendMissing: it cannot be timed.
    """
    spec = spec.model_copy(update={"batch": batch})
    side, reference = (_side(one, form, imgsz, spec) for one in (path, base))
    eager = open_timed(spec.model_copy(update={"runtime": "torch"}), path, model, imgsz)
    found, torch_found = measure([side, eager], reference, _here(form, spec), turns)
    return {
        **side[0].describe(),
        "p50_ms": found.p50_ms,
        "p90_ms": found.p90_ms,
        "base_ms": found.reference_ms,
        "ratio": found.ratio.to_dict(),
        "torch_ms": torch_found.p50_ms,
        "flags": list(found.flags),
    }


def _here(form: Format, spec: LatencySpec) -> LatencySpec:
    """Return the study's settings for the format's runtime (an ONNX file is timed by ONNX Runtime, whatever was
    searched). A `command:` times what has no runtime here.
    """
    here = {"device": "cpu"} if form.runtime in SUFFIXES else {}
    return spec.model_copy(update={"runtime": form.runtime or spec.runtime, **here})


def _side(path: Path, form: Format, imgsz: Size, spec: LatencySpec) -> tuple[Runner, ...]:
    if form.runtime is None and not is_command(spec.runtime):
        return (_BackendRunner(path, form.name, imgsz),)
    return open_timed(_here(form, spec), path, path, imgsz)


class _BackendRunner:
    """A format without its own runtime here, run by Ultralytics' backend as `YOLO(path)` does."""

    def __init__(self, path: Path, form: str, imgsz: Size) -> None:
        from ultralytics.nn.autobackend import AutoBackend

        with quiet():
            self._backend: Any = AutoBackend(str(path), device=torch.device("cpu"), verbose=False)
        shape = (1, int(self._backend.channels), *sides(imgsz))
        self._input = torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32))
        self._form = form

    def run(self) -> None:
        with torch.inference_mode():
            self._backend(self._input)

    def describe(self) -> Mapping[str, str | int]:
        batch, imgsz = self._input.shape[0], written(size_of(tuple(self._input.shape[-2:])) or 0)
        # The backend chooses the number of threads of its runtime; it cannot be set.
        runtime = f"ultralytics {self._form}"
        return {"runtime": runtime, "device": "cpu", "threads": "own", "batch": batch, "imgsz": imgsz}
