"""The engine that a study names."""

from __future__ import annotations

from pathlib import Path

from search.clock import Clock
from search.engines.engine import Engine
from search.evaluate.evaluator import Prepared
from search.record import RunRecord
from search.spec import StudySpec


def engine_of(spec: StudySpec, prepared: Prepared, record: RunRecord, clock: Clock) -> Engine:
    """Processes of this machine for `engine: optuna`, workers of a Ray cluster for `engine: ray`.

    Raises:
        ServerMissing: there is no cluster at `search.address`.
    """
    if spec.search.engine == "ray":
        from search.engines.ray_tune import RayEngine

        luggage = (Path(spec.model), record.base_dir / "base.onnx")
        return RayEngine(
            prepared.evaluator, spec.search, record.path, spec.device, preload=prepared.preload, luggage=luggage
        )
    from search.engines.local import LocalEngine

    return LocalEngine(prepared.evaluator, spec.search.workers, preload=prepared.preload, clock=clock)
