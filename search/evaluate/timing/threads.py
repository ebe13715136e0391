"""Number of threads per trial: concurrent trials share the cores without oversubscription."""

from __future__ import annotations

import os
from typing import Any

THREADS = "PARETOPRUNE_THREADS"
"""Set where it is known better how many threads a trial has: by a worker of a cluster."""


def share_of_cores(workers: int) -> int:
    """Return the cores available to this process over the number of concurrent trials; at least 1.

    OMP_NUM_THREADS is a further upper bound, as for every OpenMP program.
    """
    if os.environ.get(THREADS, "").isdecimal():
        return max(1, int(os.environ[THREADS]))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    bound = int(said) if said.isdecimal() and int(said) else cores
    return max(1, min(cores, bound) // workers)


def limit_threads(count: int) -> None:
    """Limit PyTorch to `count` threads in this process from now on.

    Ultralytics resets the number whenever it selects the CPU, from a constant made for one process per machine.
    """
    import torch
    import ultralytics.utils.torch_utils

    selecting: Any = ultralytics.utils.torch_utils
    selecting.NUM_THREADS = min(selecting.NUM_THREADS, count)
    torch.set_num_threads(min(torch.get_num_threads(), count))
