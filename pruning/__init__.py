"""Structured pruning of a PyTorch model: tracing, planning, surgery, cost, recovery.

Importing this package is cheap: torch is loaded by the parts that need it, at the first use of their names.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Read by Ultralytics at import: install nothing, fetch nothing, unpickle only what is on its list.
for _name, _value in (
    ("YOLO_AUTOINSTALL", "false"),
    ("YOLO_OFFLINE", "true"),
    ("ULTRALYTICS_SAFE_LOAD", "1"),
):
    os.environ.setdefault(_name, _value)

from pruning.errors import (  # noqa: E402
    CheckpointError,
    DivergedError,
    GrewBackError,
    PlanError,
    PruningError,
    RecoveryError,
    TraceError,
)

if TYPE_CHECKING:
    from pruning.cost import Cost
    from pruning.graph import ChannelGraph, trace
    from pruning.importance import Scores
    from pruning.plan import Plan
    from pruning.trace.groups import Group
else:
    import_module("pruning.trace")
    del trace  # the folder, which was loaded just now; the function of that name is what this package gives

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
_PLACES = {
    "ChannelGraph": "pruning.graph",
    "Cost": "pruning.cost",
    "Group": "pruning.trace.groups",
    "Plan": "pruning.plan",
    "Scores": "pruning.importance",
    "trace": "pruning.graph",
}


def __getattr__(name: str) -> Any:
    """Load the public names on first use."""
    if name not in _PLACES:
        raise AttributeError(f"module 'pruning' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return found
