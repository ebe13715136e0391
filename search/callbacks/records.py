"""A trial as flat names and values, as trackers take it."""

from __future__ import annotations

from objectives.image_size import written
from search.trial import Candidate, Trial


def parameters(candidate: Candidate) -> dict[str, float | str]:
    """Return what was proposed: `ratio.NAME` of each dimension, `imgsz`, `precision`; and, where it has one, `removed`
    blocks, the place of its `base` in the study, and the trial that it `continues`.
    """
    found: dict[str, float | str] = {f"ratio.{name}": ratio for name, ratio in candidate.ratios.items()}
    found |= {"imgsz": written(candidate.imgsz), "precision": candidate.precision}
    if candidate.removed:
        found["removed"] = " ".join(candidate.removed)
    if candidate.base:
        found["base"] = candidate.base
    if candidate.promotion is not None and candidate.promotion.trial is not None:
        found["continues"] = candidate.promotion.trial
    return found


def metrics(trial: Trial) -> dict[str, float]:
    """Return the figures of a trial, and `seconds` and `epochs` as far as they are known; empty for a failed one."""
    if trial.measurement is None:
        return {}
    found = {name: figure.value for name, figure in trial.measurement.figures.items()}
    found["seconds"] = trial.seconds_total
    return found if trial.measurement.epochs is None else {**found, "epochs": trial.measurement.epochs}


def tags(trial: Trial) -> dict[str, str]:
    """Return what else there is to say of a trial: its state and source, its twin, why it failed."""
    found = {"state": trial.state.value, "source": trial.source}
    if trial.same_as is not None:
        found["same_as"] = str(trial.same_as)
    return found if trial.error is None else {**found, "error": trial.error}
