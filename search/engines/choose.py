"""The engine that a study names."""

from __future__ import annotations

from pathlib import Path

from search.clock import Clock
from search.engines.engine import Engine
from search.evaluate.evaluator import Prepared
from search.own_reference import OwnReference
from search.record import RunRecord
from search.spec import StudySpec


def engine_of(spec: StudySpec, prepared: Prepared, record: RunRecord, clock: Clock) -> Engine:
    """Processes of this machine for `engine: optuna`, workers of a Ray cluster for `engine: ray`.

    Raises:
        ServerMissing: there is no cluster at `search.address`.
    """
    if spec.search.engine == "ray":
        from search.engines.ray_tune import RayEngine

        luggage = (*map(_file_of, (spec.model, spec.data)), record.base_dir / "base.onnx")
        return RayEngine(
            prepared.evaluator, spec.search, record.path, spec.device, preload=prepared.preload, luggage=luggage
        )
    from search.engines.local import LocalEngine

    return LocalEngine(prepared.evaluator, spec.search.workers, preload=prepared.preload, clock=clock)


def _file_of(value: str) -> Path:
    """A checkpoint, a data set's YAML, or the file of a user's own model or task."""
    own = OwnReference.parse(value)
    return Path(value) if own is None else own.file
