"""Peak memory of an artefact, measured in a process that opens and runs it as a user's program would.

What is counted: the largest resident size of the whole process since it began (`VmHWM` of Linux): Python, NumPy, the
runtime, the weights, the activations, one input; after three inferences. Nothing is subtracted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from objectives.errors import LatencyError
from objectives.latency.intervals import mean_interval
from objectives.objective import Estimate

_SCRIPT = Path(__file__).with_name("peak_memory_child.py")
_LIMIT_S = 300.0
PROCESSES = 3
_FORMS: Mapping[str, str] = {"onnxruntime": "onnx"}
"""Runtime -> its format, where the names differ."""


def peak_memory(path: Path, form: str, shape: Sequence[int], threads: int = 1) -> dict[str, float]:
    """Return {"peak_mb", "runtime_mb"} (10^6 bytes): of the whole process, and before it opened the artefact.

    Args:
        shape: (batch, channels, height, width) of the input.

    Raises:
        LatencyError: the process ended without a result; its last line gives the reason.
    """
    words = [str(_SCRIPT), form, str(path), ",".join(map(str, shape)), str(threads)]
    try:
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise LatencyError(f"{path.name} did not answer in {_LIMIT_S:.0f} s") from error
    except (ValueError, IndexError) as error:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise LatencyError(f"a process of its own could not run {path.name}: {last}") from error
    return found


def memory_mb(path: Path, runtime: str, shape: Sequence[int], threads: int) -> Estimate:
    """Return the mean peak of three processes in 10^6 bytes, with its 95 % interval (Student's t).

    Raises:
        LatencyError: a process ended without a result.
    """
    form = _FORMS.get(runtime, runtime)
    return mean_interval([peak_memory(path, form, shape, threads)["peak_mb"] for _ in range(PROCESSES)])
