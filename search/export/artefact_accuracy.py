"""Accuracy of a checkpoint or an exported artefact under equal conditions.

An exported file takes square images of one size, while `yolo val` gives a checkpoint padded rectangles (640 px become
672), which alone moves mAP by more than INT8 does. What an export loses can be read only when both are validated alike,
so here everything is validated square, while the trials of a search keep to what `yolo val` does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from objectives.accuracy.measure import Accuracy, measure_accuracy
from objectives.image_size import Size
from objectives.runtimes.native_output import native_output
from search.config.inputs.ultralytics_safety import harden


def validate(
    artefact: Path,
    model: Path,
    data: Path,
    *,
    imgsz: Size,
    device: str,
    conf: float | None = None,
    beat: Callable[[], None] = lambda: None,
) -> Accuracy:
    """Validate on square images.

    Args:
        model: the checkpoint that the artefact was exported from; may be the artefact itself.
        conf: objects with a lower score are none; None: a validation's own threshold.
        beat: called before every image.

    Raises:
        AccuracyError: the artefact or the data cannot be validated.
    """
    harden()
    with native_output() if artefact != model else nullcontext():  # some runtimes greet on standard output
        settings: dict[str, Any] = {"imgsz": imgsz, "device": device, "batch": 1, "rect": False}
        return measure_accuracy(artefact, data, **settings, like=model, conf=conf, beat=beat)


def values(accuracy: Accuracy) -> dict[str, float]:
    """Return the figures without their errors."""
    return {name: estimate.value for name, estimate in accuracy.figures.items()}
