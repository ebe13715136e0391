"""The accuracy of a checkpoint or an exported artefact, both on the same footing.

An exported file takes square images of one size, while `yolo val` gives a checkpoint padded rectangles (640 px become
672), which alone moves mAP. What an export loses can be read only when both are validated alike, so here everything
is validated square, and not through `objectives.measure_accuracy`, which keeps to what `yolo val` does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from objectives.errors import AccuracyError
from objectives.ultralytics_door import quiet

_NAMES = {
    "metrics/mAP50-95(B)": "map50_95",
    "metrics/mAP50(B)": "map50",
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50-95(M)": "mask_map50_95",
    "metrics/mAP50-95(P)": "pose_map50_95",
    "metrics/accuracy_top1": "top1",
}


def validate(artefact: Path, data: Path, *, imgsz: int, device: str, task: str) -> dict[str, float]:
    """Figures of the validation split, as fractions, by objective name; images are square.

    Raises:
        AccuracyError: the artefact or the data cannot be validated.
    """
    from ultralytics.models import YOLO

    keys: dict[str, Any] = {"split": "val", "batch": 1, "rect": False, "plots": False, "workers": 0}
    try:
        with quiet(), tempfile.TemporaryDirectory(prefix="paretoprune-val-") as work:
            place = {"project": work, "name": "val"}
            found = YOLO(artefact, task=task).val(data=str(data), imgsz=imgsz, device=device, **keys, **place)
    except Exception as error:
        raise AccuracyError(f"{artefact} could not be validated on {data}: {error}") from error
    figures = found.results_dict
    return {name: float(figures[key]) for key, name in _NAMES.items() if key in figures}
