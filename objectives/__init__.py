"""Objectives: accuracy, measured latency, Pareto fronts and the choice of a model.

The package imports nothing heavy; import `objectives.accuracy`, `objectives.latency`, `objectives.runtimes`,
`objectives.pareto` and `objectives.choice` as needed.
"""

import os as _os

# Before Ultralytics is imported by anyone: no pip-install at night, no network, no unpickling of strangers.
_os.environ.setdefault("YOLO_AUTOINSTALL", "false")
_os.environ.setdefault("YOLO_OFFLINE", "true")
_os.environ.setdefault("ULTRALYTICS_SAFE_LOAD", "1")

from objectives.errors import (
    AccuracyError,
    BackendMissing,
    BoundError,
    CommandFailed,
    LatencyError,
    NothingFits,
    ObjectiveError,
    ObjectivesError,
)
from objectives.objective import OBJECTIVES, Estimate, Objective, objectives_named

__all__ = [
    "OBJECTIVES",
    "AccuracyError",
    "BackendMissing",
    "BoundError",
    "CommandFailed",
    "Estimate",
    "LatencyError",
    "NothingFits",
    "Objective",
    "ObjectiveError",
    "ObjectivesError",
    "objectives_named",
]
