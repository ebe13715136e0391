"""A new training within a time: what a smaller network would be worth that had the time of a search.

Ultralytics' own training (`YOLO.train(time=...)`, which plans its epochs and its learning rate for the time), with the
augmentations of the model that it competes with.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from pruning.errors import RecoveryError
from pruning.recovery.finetune import inherited_from, quiet
from ultralytics_versions.parts import known_settings


def train_anew(
    source: str,
    data: str | Path,
    *,
    like: nn.Module,
    seconds: float,
    imgsz: int,
    batch: int,
    device: str,
    seed: int,
    target: Path,
    on_progress: Callable[[float], None] = lambda share: None,
    beat: Callable[[], None] = lambda: None,
) -> Path:
    """Train a network for about `seconds` and write its best epoch to `target`.

    Args:
        source: an architecture (yolov8n.yaml, one of Ultralytics' or a file), or a checkpoint to begin from.
        like: the model whose task it has, and with whose augmentations it is trained.
        imgsz: input size in pixels.
        on_progress: called with the share of the time that is spent; `beat` before every batch.

    Raises:
        RecoveryError: there is no such architecture or file, it is for another task, or nothing was trained.
    """
    from ultralytics.models.yolo.model import YOLO

    task, place = str(getattr(like, "task", "detect")), target.parent / "anew"
    began = time.monotonic()

    def step(_: Any) -> None:
        beat()
        on_progress(min(1.0, (time.monotonic() - began) / max(seconds, 1e-9)))

    with quiet():
        model: Any = _opened(YOLO, source)
        if model.task != task:
            raise RecoveryError(f"{source} is a {model.task} model, the study's is a {task} model")
        # A class name without "Trainer" keeps experiment trackers out, as in `finetune.recover`.
        trainer = type("Anew", (model.task_map[task]["trainer"],), {})
        model.add_callback("on_train_batch_start", step)
        settings = {
            **known_settings(inherited_from(like)),
            **{"data": str(data), "imgsz": imgsz, "batch": batch, "device": device, "seed": seed},
            **{"project": str(place.parent), "name": place.name, "exist_ok": True, "plots": False, "verbose": False},
            **{"workers": 0, "amp": device != "mps", "time": seconds / 3600},
        }
        model.train(trainer=trainer, **settings)
        best = Path(model.trainer.best)
    if not best.is_file():
        raise RecoveryError(f"the training of {source} left no checkpoint: too little time, or its loss was no number")
    os.replace(best, target)
    shutil.rmtree(place, ignore_errors=True)
    return target


def _opened(kind: Callable[[str], Any], source: str) -> Any:
    """Open an architecture or a checkpoint; nothing is downloaded. Raises RecoveryError."""
    try:
        return kind(source)
    except (OSError, KeyError, ValueError, SyntaxError, TypeError) as error:
        raise RecoveryError(f"{source} cannot be trained: {error}") from error
