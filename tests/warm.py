"""Imported by the fork server of a test run, beside what every trial needs: what a preparation needs only once.

A user's search is prepared in one child, which may import all of this by itself: a second of SciPy's statistics, and a
second more for the first tracing in a process. The tests prepare dozens of searches.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path

import scipy.stats  # noqa: F401  (of the intervals of every accuracy)
import torch
from torch import nn

import search.evaluate.data_record
import search.evaluate.final_measurements
import search.prepare.guide_setup
import search.prepare.preflight  # noqa: F401
from pruning import graph
from tests.shelf import FOLDER, open_shelf, remember_traces

graph.trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)).eval(), torch.zeros(1, 3, 8, 8))
if FOLDER in os.environ:
    open_shelf(Path(os.environ[FOLDER]))
    remember_traces()
gc.collect()
gc.freeze()
