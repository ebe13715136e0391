"""The images for comparing outputs, the same for sensitivities and for the scores of trials."""

from __future__ import annotations

from typing import Any

from pruning import ChannelGraph, Scores
from pruning.sensitivity import SensitivityProbe
from search.config.spec import StudySpec
from search.evaluate.workload import calibration_batches

IMAGES = 16
"""With four times as many, prices rank plans no better by what the fine-tune makes of them (docs/search.md)."""


def output_probe(spec: StudySpec, model: Any, graph: ChannelGraph, scores: Scores) -> SensitivityProbe:
    """Return a probe that compares a pruned network's outputs with the base's on a few training images."""
    task = str(getattr(model, "task", "detect"))
    batches = list(calibration_batches(spec.data, spec.imgsz, IMAGES, IMAGES, task))
    return SensitivityProbe(model, graph, batches, scores, spec.space.round_to)
