"""What can go wrong in this room, drawn.

::

    PruningError
    ├── PlanError          the caller's mistake: a ratio outside [0, 1), an unknown group, a plan for another model
    ├── TraceError         the model cannot be exported, so its channels cannot be followed
    ├── CheckpointError    a file that is missing, torn, not a model, or not safe to load
    └── RecoveryError      a fine-tune that failed
        ├── GrewBackError      the trained model has another parameter count than the pruned one
        └── DivergedError      the loss became NaN or infinite
"""

from __future__ import annotations


class PruningError(Exception):
    """Base of everything that this room raises on purpose."""


class PlanError(PruningError, ValueError):
    """A ratio, a group name or a plan that does not fit the model."""


class TraceError(PruningError):
    """The model could not be exported."""


class CheckpointError(PruningError):
    """A checkpoint that cannot be read, or must not be."""


class RecoveryError(PruningError):
    """A fine-tune that did not give a usable model."""


class GrewBackError(RecoveryError):
    """Training returned a model with another parameter count: Ultralytics rebuilt it from its YAML."""


class DivergedError(RecoveryError):
    """The loss became NaN or infinite."""
