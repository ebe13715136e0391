"""The largest accuracy drop of any class, which the mean hides."""

from __future__ import annotations

from collections.abc import Mapping

from objectives.objective import Estimate


def largest_drop(
    before: Mapping[str, float], after: Mapping[str, float], errors: Mapping[str, float]
) -> tuple[str, Estimate] | None:
    """Return the class that lost most against the base, and its loss as a fraction: the figure `per_class_drop`.

    `before` and `after` are accuracies by class, `errors` the standard errors of `after`. A class that the base has and
    the candidate lacks has lost everything; a new one loses nothing. Below 0 every class has gained. The first of equal
    classes is named. None if the base has no classes.
    """
    if not before:
        return None
    name = max(before, key=lambda key: before[key] - after.get(key, 0.0))
    drop = before[name] - after.get(name, 0.0)
    return name, Estimate.normal(drop, errors.get(name, 0.0), within=(-1.0, 1.0))
