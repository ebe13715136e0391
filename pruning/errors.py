"""Exceptions of the package.

::

    PruningError
    ├── PlanError          the caller's mistake: a ratio outside [0, 1), an unknown group, a plan for another model
    ├── TraceError         the model cannot be exported, so its channels cannot be followed
    ├── CheckpointError    a file that is missing, truncated, not a model, or unsafe to load
    └── RecoveryError      a fine-tune that failed
        ├── GrewBackError      the trained model has another parameter count than the pruned one
        └── DivergedError      the loss became NaN or infinite
"""

from __future__ import annotations


class PruningError(Exception):
    """Base class of the package's exceptions."""


class PlanError(PruningError, ValueError):
    """Invalid ratio, group name or plan for the model."""


class TraceError(PruningError):
    """The model could not be exported by torch.export."""


class CheckpointError(PruningError):
    """A checkpoint that is unreadable or unsafe to load."""


class RecoveryError(PruningError):
    """A fine-tune that gave no usable model."""


class GrewBackError(RecoveryError):
    """Training returned a model with another parameter count: Ultralytics rebuilt it from its YAML."""


class DivergedError(RecoveryError):
    """The loss became NaN or infinite."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
