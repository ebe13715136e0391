"""Imported by the fork server: what every trial needs, loaded once. Must not start threads or touch a GPU."""

from __future__ import annotations

import atexit
import contextlib
import gc

_MODULES = (
    "search.evaluate.pruning_evaluator",
    "ultralytics",
    "ultralytics.engine.trainer",
    "onnxruntime",
    "torchvision",  # the first validator imports it, and with it half of PyTorch's compiler: a second or two a trial
    "matplotlib.pyplot",  # these three: what Ultralytics imports in the middle of its first validation
    "thop",
    "ultralytics.utils.events",
)
for _name in _MODULES:
    with contextlib.suppress(ImportError):  # what is missing is reported by the trial that needs it
        __import__(_name)

# Ultralytics collects garbage several times in every training: a fifth of a second each over all that was imported
# here, and every page of it that a collection touches is a trial's own from then on.
gc.collect()
gc.freeze()
# What is frozen is not collected when the fork server ends either, and Triton 3.9 would report that as leaked: forty
# lines in the user's terminal, after the summary of the search.
atexit.register(gc.unfreeze)
