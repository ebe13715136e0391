"""A search in a process of its own that takes its time: `python -m tests.browser.slow_search FOLDER TRIALS SLEEP_S`.

The known front's figures, the real loop, Optuna and the real files: what a page follows.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from search.study import Parts, Study
from search.testing.known_front import KnownFront, KnownFrontEvaluator


def prepare(folder: Path) -> None:
    """What a study file names."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "best.pt").write_bytes(b"weights")
    (folder / "images" / "one.png").write_bytes(b"pixels")
    (folder / "data.yaml").write_text("path: .\ntrain: images\nval: images\n")
    (folder / "study.yaml").write_text(
        "model: best.pt\ndata: data.yaml\nname: slow\nbudgets: {edge: {latency_ms: 6}}\n"
    )


def main(folder: Path, trials: int, sleep_s: float) -> None:
    """Search, in this process's only thread."""
    prepare(folder)
    os.chdir(folder)
    parts = Parts(prepare=KnownFront(KnownFrontEvaluator(sleep_s=sleep_s, seconds=60.0)))
    Study("study.yaml", parts=parts, **{"search.trials": trials}).search()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
