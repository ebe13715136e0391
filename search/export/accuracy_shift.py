"""The accuracy of an artefact beside those of checkpoints, which were validated in another way."""

from __future__ import annotations

from collections.abc import Mapping

from objectives.objective import Estimate


def shifted(
    figures: Mapping[str, Estimate], before: Mapping[str, float], after: Mapping[str, float]
) -> dict[str, Estimate]:
    """Figures of a checkpoint, as fractions, less what its artefact loses on the same images: `before` to `after`.

    What was not measured on both is left out. The interval moves with its figure: it is that of the images, which both
    share.
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
