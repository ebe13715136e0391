"""Trackers: where a search is logged besides its run folder, by their names in `track` of the study.

    jsonl         events.jsonl of the run                            nothing to install
    tensorboard   tensorboard/ of the run                            pip install "paretoprune[tensorboard]"
    mlflow        MLFLOW_TRACKING_URI, or mlflow.db beside the run   pip install "paretoprune[mlflow]"

They are callbacks like a user's own; their packages are imported when the search starts.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from objectives.errors import BackendMissing
from search.callbacks.callback import Callback
from search.callbacks.jsonl import JsonLines
from search.callbacks.mlflow_runs import MlflowRuns
from search.callbacks.notify import Notifier
from search.callbacks.tensorboard_events import TensorBoardEvents
from search.config.spec import StudySpec

_MADE_BY: dict[str, Callable[[Path], Callback]] = {
    "jsonl": JsonLines,
    "tensorboard": TensorBoardEvents,
    "mlflow": MlflowRuns,
}
_MODULES = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
"""Of trackers that have a package: its module, named as the extra that brings it."""


def check_trackers(spec: StudySpec) -> None:
    """Raise BackendMissing, with the line that installs it, for a tracker whose package is not there."""
    for name in spec.track:
        module = _MODULES.get(name)
        if module is not None and find_spec(module) is None:
            raise BackendMissing(module, needed_for=f"track: {name}", install=f'pip install "paretoprune[{name}]"')


def followers_of(spec: StudySpec, run: Path) -> list[Callback]:
    """Return the callbacks that the study itself asks for: its trackers, and its notification."""
    trackers = [_MADE_BY[name](run) for name in spec.track]
    return [*trackers, Notifier(spec.notify.command)] if spec.notify.command else trackers
