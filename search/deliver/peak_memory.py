"""Peak memory of an artefact, measured in a process that opens and runs it as a user's program would."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from search.export.errors import ExportFailed

_SCRIPT = Path(__file__).with_name("peak_memory_child.py")
_LIMIT_S = 300.0


def peak_memory(path: Path, form: str, shape: Sequence[int], threads: int = 1) -> dict[str, float]:
    """Return {"peak_mb", "runtime_mb"} (10^6 bytes): of the whole process, and before it opened the artefact.

    Args:
        shape: (batch, channels, height, width) of the input.

    Raises:
        ExportFailed: the process ended without a result; its last line gives the reason.
    """
    words = [str(_SCRIPT), form, str(path), ",".join(map(str, shape)), str(threads)]
    try:
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=_LIMIT_S, check=False)
        found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired as error:
        raise ExportFailed(f"{path.name} did not answer in {_LIMIT_S:.0f} s", where=form) from error
    except (ValueError, IndexError) as error:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ExportFailed(f"a process of its own could not run {path.name}: {last}", where=form) from error
    return found
