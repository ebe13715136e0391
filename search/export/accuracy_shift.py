"""Make the accuracy of an artefact comparable with that of checkpoints, which are validated differently."""

from __future__ import annotations

from collections.abc import Mapping

from objectives.objective import Estimate


def shifted(
    figures: Mapping[str, Estimate], before: Mapping[str, float], after: Mapping[str, float]
) -> dict[str, Estimate]:
    """Subtract from a checkpoint's figures (fractions) its artefact's loss on the same images, `before` to `after`.

    Figures that were not measured on both are left out. The interval moves with its figure: it is that of the images,
    which both share.
    """
    found = {}
    for name, estimate in figures.items():
        if name in before and name in after:
            value, low, high = (
                min(1.0, max(0.0, end + after[name] - before[name]))
                for end in (estimate.value, estimate.low, estimate.high)
            )
            found[name] = Estimate(value, low, high)
    return found
