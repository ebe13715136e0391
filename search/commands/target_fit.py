"""From which uniform ratio on a network fits a study's target: counted on the network that such a plan makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from search.config.spec import StudySpec
from search.config.targets.limits import family_of_blocks

STEP = 0.01
"""Ratios are looked at in steps of this, as people write them."""


class Traced(Protocol):
    """A base, traced: what is known of it in `check`."""

    @property
    def model(self) -> Any: ...
    @property
    def graph(self) -> Any: ...
    @property
    def space(self) -> Any: ...
    @property
    def scores(self) -> Any: ...


def target_facts(spec: StudySpec, bases: Sequence[Traced]) -> dict[str, Any]:
    """Return the study's target as plain data, with `fits`: a row for each base that a ceiling of weights holds for."""
    assert spec.target is not None
    named = zip(spec.base_names, bases, strict=True)
    rows = [row for name, base in named if (row := fit_of(spec, name, base)) is not None]
    return {**spec.target.model_dump(mode="json"), "fits": rows}


def fit_of(spec: StudySpec, name: str, base: Traced) -> dict[str, Any] | None:
    """Return the smallest uniform ratio at which a base fits the study's target; None if the target has no ceiling.

    Every group that the study may prune gets that ratio, rounded as the study rounds, and no block is removed. Weights
    are counted on the pruned network (`objectives.weights.kernel_weights`), with the constants of the largest input.
    Their number never grows with the ratio, so the ratio is found by bisection.

    Returns:
        base, ratio (0 for the base itself, None where even the largest is too large), mb at that ratio (or the
        largest), limit_mb: 10^6 bytes, both with the constants.
    """
    from objectives.weights import kernel_weights

    assert spec.target is not None
    family = family_of_blocks({type(module).__name__ for module in base.model.modules()})
    limits = spec.target.network(family, str(getattr(base.model, "task", "detect")))
    if limits is None or limits.weights_mb is None:
        return None
    constants = max(limits.constants_mb(size) for size in (spec.imgsz, *spec.sizes))
    groups = [group for dimension in base.space.dimensions for group in dimension.groups]

    def weights_mb(ratio: float) -> float:
        if not ratio:
            return kernel_weights(base.model) / 1e6 + constants
        plan = base.graph.plan(dict.fromkeys(groups, ratio), base.scores, spec.space.round_to)
        return kernel_weights(plan.apply(base.model)) / 1e6 + constants

    ratio, weights = smallest_ratio(weights_mb, limits.weights_mb, spec.space.ratio[1])
    return {"base": name, "ratio": ratio, "mb": weights, "limit_mb": limits.weights_mb}


def smallest_ratio(weights_mb: Callable[[float], float], limit_mb: float, most: float) -> tuple[float | None, float]:
    """Return the smallest multiple of STEP up to `most` whose weights are within the limit, and these.

    None and the weights at `most` where none is.
    """
    last = int(most / STEP + 1e-9)
    counts = {last: weights_mb(last * STEP)}
    if counts[last] > limit_mb:
        return None, counts[last]
    low, high = -1, last
    while high - low > 1:
        middle = (low + high) // 2
        counts[middle] = weights_mb(round(middle * STEP, 2))
        low, high = (low, middle) if counts[middle] <= limit_mb else (middle, high)
    return round(high * STEP, 2), counts[high]
