"""Choose a trial by the options of `pick`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from objectives.choice import Bound
from search.config.budgets import share_of_base
from search.deliver.picked_trial import PickedTrial
from search.deliver.selection import Selection
from search.errors import ConfigError
from search.results.results import Results
from search.trial import figures_to_json


def choose(
    selection: Selection, most: Sequence[str], least: Sequence[str], budget: str | None, *, knee: bool, one_se: bool
) -> PickedTrial:
    """Return the trial that the options of `pick` select.

    Raises:
        ConfigError: options that exclude each other. NothingFits: no trial is within the limits.
    """
    results = selection.results
    bounds = [*_bounds(results, most, "<="), *_bounds(results, least, ">=")]
    ways = sum((bool(bounds) or budget is not None, knee, one_se))
    if ways > 1:
        raise ConfigError("--knee, --one-se and budgets exclude each other", expected="one of them")
    if knee:
        return selection.knee()
    if one_se:
        return selection.one_se()
    if not bounds and budget is None and results.spec.budgets:
        budget = next(iter(results.spec.budgets))
    return selection.pick(*bounds, budget=budget)


def picked_facts(picked: PickedTrial) -> dict[str, Any]:
    """Return the pick as plain data; write its folder if the weights are on disk."""
    note = None
    try:
        folder: str | None = str(picked.write())
    except ConfigError as error:
        folder, note = None, str(error)
    return {
        "id": str(picked.chosen.id),
        "trial": picked.chosen.number,
        "sentence": picked.sentence,
        "figures": figures_to_json(picked.chosen.figures),
        "candidate": picked.chosen.candidate.to_json(),
        "folder": folder,
        "note": note,
    }


def _bounds(results: Results, items: Sequence[str], operator: str) -> list[Bound]:
    found = []
    for item in items:
        name, sign, limit = item.partition("=")
        if not sign or name.endswith(("<", ">")):
            raise ConfigError(f"{item!r} is not name=limit", expected="--max latency_ms=5, or 80% of the base's")
        found.append(Bound.parse(f"{name}{operator}{_limit(results, name, limit)}"))
    return found


def _limit(results: Results, name: str, limit: str) -> str:
    """Return a limit as a number, '80%' as that share of the base's figure."""
    base = {} if results.base is None else results.base.figures
    try:
        share = share_of_base("pick", name, limit)
        return limit if share is None else f"{base[name].value * share:.6g}"
    except (KeyError, ValueError) as error:
        raise ConfigError(f"{name}={limit}: not a share of a figure of the base", expected="latency_ms=80%") from error
