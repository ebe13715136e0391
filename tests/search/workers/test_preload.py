"""What the fork server loads, and leaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_SCRIPT = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count()))  # registered first: it runs after what the module registers
sys.path.insert(0, sys.argv[1])
heavy = ("ultralytics", "torchvision", "onnxruntime", "matplotlib", "thop", "search.evaluate.pruning_evaluator")
sys.modules.update(dict.fromkeys(heavy))  # they count as not installed
import search.workers.preload
print(gc.get_freeze_count() > 1000)
"""


def test_what_was_frozen_can_be_collected_at_the_end() -> None:
    """Bindings made with nanobind, as Triton's, report what is left when Python ends, in the user's terminal."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "0"]
