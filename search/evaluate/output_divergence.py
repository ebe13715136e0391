"""The images for comparing outputs, the same for sensitivities and for the scores of trials."""

from __future__ import annotations

from typing import Any

from pruning import ChannelGraph, Scores
from pruning.sensitivity import SensitivityProbe
from search.config.spec import StudySpec
from search.evaluate.workload import calibration_batches

IMAGES = 64
"""Images at 320 px; fewer at larger sizes, so that a comparison costs about the same."""
_LEAST, _BATCH = 16, 32


def output_probe(spec: StudySpec, model: Any, graph: ChannelGraph, scores: Scores) -> SensitivityProbe:
    """Return a probe that compares a pruned network's outputs with the base's on a few training images."""
    count = min(IMAGES, max(_LEAST, int(IMAGES * (320 / spec.imgsz) ** 2)))
    task = str(getattr(model, "task", "detect"))
    batches = list(calibration_batches(spec.data, spec.imgsz, count, _BATCH, task))
    return SensitivityProbe(model, graph, batches, scores, spec.space.round_to)
