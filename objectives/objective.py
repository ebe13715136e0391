"""Names, units and directions of the objectives, and estimates with their errors."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from objectives.errors import ObjectiveError

Direction = Literal["max", "min"]
Z95 = 1.959963984540054
"""Half-width of the central 95 % of a normal distribution, in standard deviations."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval, `low <= value <= high`, in the unit of its objective.

    An exact figure (a parameter count) has `low == value == high`. Raises ValueError for NaN and infinity, which would
    compare false everywhere and distort a front.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, _finite(name, getattr(self, name)))
        if not self.low <= self.value <= self.high:
            raise ValueError(
                f"Estimate: the interval must hold the value: low <= value <= high, "
                f"found low={self.low}, value={self.value}, high={self.high}."
            )

    @classmethod
    def exact(cls, value: float) -> Estimate:
        """Return a figure without error."""
        return cls(value, value, value)

    @classmethod
    def normal(cls, value: float, standard_error: float, *, within: tuple[float, float] | None = None) -> Estimate:
        """Return a figure with a normal 95 % interval, clipped to its range (`within`)."""
        floor, ceiling = within if within else (-math.inf, math.inf)
        margin = Z95 * standard_error
        return cls(value, min(value, max(floor, value - margin)), max(value, min(ceiling, value + margin)))

    @property
    def is_exact(self) -> bool:
        return self.low == self.high

    @property
    def standard_error(self) -> float:
        """The wider side of the interval over 1.96, since the side clipped at a range's end is too short."""
        return max(self.high - self.value, self.value - self.low) / Z95

    def overlaps(self, other: Estimate) -> bool:
        """Return whether the two intervals overlap."""
        return self.low <= other.high and other.low <= self.high

    def scaled(self, factor: float) -> Estimate:
        """Return the same figure in another unit; `factor` is above 0."""
        if not factor > 0:
            raise ValueError(f"Estimate.scaled: the factor must be above 0, found {factor}.")
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def to_dict(self) -> dict[str, float]:
        """Return plain data, as in `snapshot.json`."""
        return {"value": self.value, "low": self.low, "high": self.high}


def _finite(name: str, number: object) -> float:
    try:
        figure = float(number)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"Estimate: {name} must be a number, found {number!r}.") from None
    if not math.isfinite(figure):
        raise ValueError(
            f"Estimate: {name} must be finite, found {figure}. A measurement that came out like this has "
            f"failed: "
            f"record it as failed instead of as a figure."
        )
    return figure


@dataclass(frozen=True, slots=True)
class Objective:
    """A measured quantity: its key in every table, its unit, and the direction of optimisation."""

    name: str
    unit: str
    direction: Direction
    title: str
    is_cost: bool = False
    """What a model takes (time, memory, work), as against how good it is."""

    @property
    def is_fraction(self) -> bool:
        return self.unit == "fraction"

    def text(self, value: float) -> str:
        """Format a figure for display: `0.412`, `5.13 ms`."""
        if self.is_fraction:
            return f"{value:.3f}"
        number = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
        return f"{number} {self.unit}".rstrip()


def _table(*objectives: Objective) -> dict[str, Objective]:
    return {objective.name: objective for objective in objectives}


_KNOWN: dict[str, Objective] = _table(
    Objective("map50_95", "fraction", "max", "mAP50-95"),
    Objective("map50", "fraction", "max", "mAP50"),
    Objective("precision", "fraction", "max", "Precision"),
    Objective("recall", "fraction", "max", "Recall"),
    Objective("map_small", "fraction", "max", "mAP50-95 of small objects"),
    Objective("mask_map50_95", "fraction", "max", "Mask mAP50-95"),
    Objective("mask_map50", "fraction", "max", "Mask mAP50"),
    Objective("mask_map_small", "fraction", "max", "Mask mAP50-95 of small objects"),
    Objective("pose_map50_95", "fraction", "max", "Pose mAP50-95"),
    Objective("pose_map50", "fraction", "max", "Pose mAP50"),
    Objective("top1", "fraction", "max", "Top-1 accuracy"),
    Objective("top5", "fraction", "max", "Top-5 accuracy"),
    Objective("per_class_drop", "fraction", "min", "Largest loss of a class"),
    Objective("latency_ms", "ms", "min", "Latency", is_cost=True),
    Objective("params_m", "M", "min", "Parameters", is_cost=True),
    Objective("macs_g", "G", "min", "MACs", is_cost=True),
    Objective("size_mb", "MB", "min", "Size", is_cost=True),
    Objective("weights_mb", "MB", "min", "Weights in INT8", is_cost=True),
    Objective("e2e_ms", "ms", "min", "End-to-end latency", is_cost=True),
    Objective("memory_mb", "MB", "min", "Peak memory", is_cost=True),
    Objective("energy_mj", "mJ", "min", "Energy", is_cost=True),
)
OBJECTIVES: Mapping[str, Objective] = MappingProxyType(_KNOWN)
"""Accuracy as a fraction 0 to 1, latency in milliseconds, parameters in 10^6, MACs in 10^9, size in 10^6
bytes; `weights_mb`: 10^6 weights of convolutions and linear layers, a byte each in INT8 (`weights.kernel_weights`),
counted where a study names it. A figure without a prefix is that of boxes; `map_small`: see `accuracy.small_objects`;
`per_class_drop`: how much less accurate the class is that lost most against the base. End-to-end latency in
milliseconds of a batch, peak memory of a process in 10^6 bytes, energy of a batch in millijoules: see `resources`."""

DEPLOYED = ("e2e_ms", "memory_mb", "energy_mj")
"""Costs of a deployed network that are measured only where a study names them."""

NAMED_ONLY = (*DEPLOYED, "weights_mb")
"""Figures that are measured only where a study names them. They came later: a task of a user's own may have declared
one of these names before, and that one is meant then."""

_BOXES = ("map50_95", "map50", "precision", "recall", "map_small")
TASK_FIGURES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "detect": _BOXES,
        "segment": (*_BOXES, "mask_map50_95", "mask_map50", "mask_map_small"),
        "pose": (*_BOXES, "pose_map50_95", "pose_map50"),
        "obb": _BOXES,
        "classify": ("top1", "top5"),
    }
)
"""Task -> its figures of accuracy. Those of small objects are there only where the data have some."""

MAIN_FIGURES: Mapping[str, str] = MappingProxyType(
    {
        "detect": "map50_95",
        "segment": "mask_map50_95",
        "pose": "pose_map50_95",
        "obb": "map50_95",
        "classify": "top1",
    }
)
"""Task -> the figure that the task is about: the default objective, and what a class may not lose."""


_BUILT_IN = dict(_KNOWN)


def register(objective: Objective, *, instead_of: Collection[str] = ()) -> None:
    """Register a figure of a user's own task in this process; repeating the same one changes nothing.

    Args:
        instead_of: names of figures of this package of which it may take the place.

    Raises `ObjectiveError` if the name is taken by a figure of this package or another of the user's.
    """
    name, known = objective.name, _KNOWN.get(objective.name)
    if known == objective:
        return
    if name in _BUILT_IN and name not in instead_of:
        raise ObjectiveError(f"The figure {name!r} is measured here already: choose another name.")
    if known is not None and known != _BUILT_IN.get(name):
        raise ObjectiveError(f"The figure {name!r} is known as {known}, not as {objective}.")
    _KNOWN[name] = objective


def objective_named(name: str) -> Objective:
    """Return the objective of that name. Raises `ObjectiveError` with the nearest name."""
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    near = difflib.get_close_matches(name, OBJECTIVES, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise ObjectiveError(f"Unknown objective {name!r}. {hint}Expected one of: {', '.join(OBJECTIVES)}.")


def objectives_named(names: Iterable[str]) -> tuple[Objective, ...]:
    """Return objectives in the order of `names`. Raises `ObjectiveError` if one is unknown or repeated, or on none."""
    found = tuple(objective_named(name) for name in names)
    if not found:
        raise ObjectiveError(f"No objective was named. Expected at least one of: {', '.join(OBJECTIVES)}.")
    repeated = sorted({o.name for o in found if found.count(o) > 1})
    if repeated:
        raise ObjectiveError(f"Objective named more than once: {', '.join(repeated)}. Name each once.")
    return found


def first_accuracy(objectives: Iterable[Objective]) -> Objective | None:
    """Return the first objective that is no cost: the quality that a search trades for cost."""
    return next((objective for objective in objectives if not objective.is_cost), None)


def first_cost(objectives: Iterable[Objective]) -> Objective | None:
    """Return the first objective that is a cost."""
    return next((objective for objective in objectives if objective.is_cost), None)


def figure(row: Mapping[str, Estimate], name: str, where: str) -> Estimate:
    """Return `row[name]`. Raises `ObjectiveError` naming the row and its figures if it is missing."""
    estimate = row.get(name)
    if isinstance(estimate, Estimate):
        return estimate
    if estimate is None:
        raise ObjectiveError(f"{where} has no figure for {name}; it has: {', '.join(row) or 'none'}.")
    raise ObjectiveError(f"{where}: {name} must be an Estimate, found {type(estimate).__name__}: {estimate!r}.")
