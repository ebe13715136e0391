"""Imported by the fork server: what every trial needs, loaded once. Nothing here may start a thread or touch a GPU."""

from __future__ import annotations

import contextlib

for _name in ("search.evaluate.pruned", "ultralytics", "ultralytics.engine.trainer", "onnxruntime"):
    with contextlib.suppress(ImportError):  # what is missing is reported by the trial that needs it
        __import__(_name)
