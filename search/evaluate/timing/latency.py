"""Latency measurement of a study: several openings of its runtime, interleaved, on the quietest processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from objectives.image_size import Size
from objectives.latency.cpu_pinning import pinned
from objectives.latency.protocol import Latency, Side, compare_many
from objectives.runtimes.names import file_suffix, is_command
from objectives.runtimes.open import OPENINGS, export_for_timing, open_side
from objectives.runtimes.runner import Runner
from search.config.sections import LatencySpec
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.evaluate.timing.user_folder import user_folder


def export_timed(model: Any, spec: LatencySpec, stem: Path, imgsz: Size) -> Path:
    """Export a module to the file that the study's runtime is timed on: `stem` with the suffix of the runtime.

    Raises:
        LatencyError: it cannot be exported. BackendMissing: the converter is not installed.
    """
    path = stem.with_name(f"{stem.name}{file_suffix(spec.runtime)}")
    return export_for_timing(model, path, imgsz=imgsz, batch=spec.batch, runtime=spec.runtime)


def open_timed(spec: LatencySpec, file: Path, model: Any, imgsz: Size) -> tuple[Runner, ...]:
    """Open one side on the study's runtime: torch runs the module, every other runtime the exported file."""
    return open_side(
        model if spec.runtime == "torch" else file,
        OPENINGS,
        runtime=spec.runtime,
        imgsz=imgsz,
        device=spec.device,
        threads=spec.threads,
        batch=spec.batch,
        timeout_s=spec.timeout_s,
    )


@contextmanager
def alone(spec: LatencySpec, turns: MeasurementLock) -> Iterator[None]:
    """Exclude all other training and timing of this user on this machine, and pin this process's threads.

    Pins to the quietest processors, where the study's runtime computes on them.
    """
    threads = torch.get_num_threads()
    here = spec.device == "cpu" and not is_command(spec.runtime)
    try:
        with turns.timing(), pinned(spec.threads) if here else nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)  # the torch runtime sets its own


LOCK_VARIABLE = "PARETOPRUNE_MEASURING_LOCK"


def measure(
    candidates: Sequence[Side],
    reference: Side,
    spec: LatencySpec,
    turns: MeasurementLock,
    *,
    seed: int = 0,
    watch: Callable[[float], None] = lambda share: None,
) -> tuple[Latency, ...]:
    """Time candidates against the reference, interleaved and exclusive."""
    with alone(spec, turns):
        return compare_many(candidates, reference, cap_s=spec.seconds, seed=seed, watch=watch)


def lock_path() -> Path:
    """Return the measuring lock of this user on this machine, shared by all studies.

    PARETOPRUNE_MEASURING_LOCK names another file, for runs whose figures may be disturbed: tests, which would otherwise
    wait for each other and for any search on the machine.

    Raises:
        ConfigError: somebody else has a folder of that name.
    """
    said = os.environ.get(LOCK_VARIABLE)
    return Path(said) if said else user_folder() / "measuring.lock"
