"""The error of a difference between two models validated on the same images.

Which images happen to be in the split moves both models the same way, so the difference of their accuracies is known
far better than either. Models are therefore ranked by intervals of the difference to the base, from one set of
bootstrap resamples that all of them share (paired bootstrap: Efron and Tibshirani 1993, chapter 16; for comparing
models Koehn, EMNLP 2004). The interval of a figure itself, which says how well the number is known, is wider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from objectives.objective import Estimate

Replicates = Mapping[str, Sequence[float]]
"""Figure -> its value in each resample; the n-th resample draws the same images for every model of a split."""


def paired_errors(model: Replicates, base: Replicates) -> dict[str, float]:
    """Return the standard error of the difference to the base for each figure that both have.

    If one of them has fewer resamples, the common ones are used; at least two are needed.
    """
    found = {}
    for name in model.keys() & base.keys():
        count = min(len(model[name]), len(base[name]))
        if count > 1:
            found[name] = float(np.std(np.subtract(model[name][:count], base[name][:count]), ddof=1))
    return found


def paired_difference(
    name: str, model: Replicates, other: Replicates, change: float, more_error: float = 0.0
) -> Estimate | None:
    """Return a difference between two models, with its 95 % interval from the resamples that they share.

    Args:
        name: of the figure; `change`: how much more of it `model` has.
        more_error: standard error that resampling images does not show, such as that between trainings.

    Returns None if one of them has no resamples.
    """
    found = paired_errors({name: model.get(name, ())}, {name: other.get(name, ())})
    return Estimate.normal(change, float(np.hypot(found[name], more_error))) if name in found else None


def ranked_figures(figures: Mapping[str, Estimate], paired: Mapping[str, float]) -> dict[str, Estimate]:
    """Return the same figures with the intervals by which models are compared with each other."""
    narrowed = {name: Estimate.normal(figures[name].value, error) for name, error in paired.items() if name in figures}
    return {**figures, **narrowed}
