"""Structured pruning of a PyTorch model: tracing, planning, surgery, cost, recovery."""

import os

# Read by Ultralytics at import: install nothing, fetch nothing, unpickle only what is on its list.
for _name, _value in (
    ("YOLO_AUTOINSTALL", "false"),
    ("YOLO_OFFLINE", "true"),
    ("ULTRALYTICS_SAFE_LOAD", "1"),
):
    os.environ.setdefault(_name, _value)

from pruning.cost import Cost  # noqa: E402
from pruning.errors import (  # noqa: E402
    CheckpointError,
    DivergedError,
    GrewBackError,
    PlanError,
    PruningError,
    RecoveryError,
    TraceError,
)
from pruning.graph import ChannelGraph, trace  # noqa: E402
from pruning.importance import Scores  # noqa: E402
from pruning.plan import Plan  # noqa: E402
from pruning.trace.groups import Group  # noqa: E402

__all__ = [
    "ChannelGraph",
    "CheckpointError",
    "Cost",
    "DivergedError",
    "GrewBackError",
    "Group",
    "Plan",
    "PlanError",
    "PruningError",
    "RecoveryError",
    "Scores",
    "TraceError",
    "trace",
]
