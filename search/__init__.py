"""Search of pruning ratios: proposes candidates, schedules and records trials, shows the front.

Importing this package is cheap: torch, ultralytics and Optuna are loaded by the parts that need them.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Before anything can import ultralytics: an export must not pip-install at night, nothing is fetched behind
# the user's back, and checkpoints are read through the allow-list. Whatever the shell says: that was for other tools.
os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", ULTRALYTICS_SAFE_LOAD="1")

if TYPE_CHECKING:
    from search.callbacks.callback import Callback
    from search.deliver.picked_trial import PickedTrial
    from search.study import Study

__all__ = ["Callback", "PickedTrial", "Study"]
_PLACES = {
    "Callback": "search.callbacks.callback",
    "PickedTrial": "search.deliver.picked_trial",
    "Study": "search.study",
}


def __getattr__(name: str) -> Any:
    """Load the public names on first use, so that `import search.errors` stays cheap."""
    if name in __all__:
        import_module("search.errors").check_system()
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'search' has no attribute {name!r}")
