"""Figures and what they mean together: accuracy, measured latency, fronts and picks.

The package itself imports nothing heavy; `objectives.accuracy`, `objectives.latency`, `objectives.runtimes`,
`objectives.pareto` and `objectives.choice` are imported by whoever needs them.
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
