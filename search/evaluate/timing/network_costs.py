"""What one network takes on the study's runtime: its latency, and the further costs that the study names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from objectives.latency.protocol import Latency
from objectives.objective import Estimate

_OF_PICTURES = frozenset({"drift", "throttling", "noisy"})
"""Flags that pictures of many and few boxes raise on the quietest machine."""


@dataclass(frozen=True)
class Further:
    """A cost beside latency.

    Attributes:
        figure: the ratio to the base's if `relative`, else the cost in its own unit.
        reference: the base's cost in the same measurement, of a relative one.
        facts: what explains it, as plain data: flags, rounds, milliseconds, boxes.
    """

    figure: Estimate
    relative: bool = False
    reference: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def interleaved(cls, found: Latency, **facts: Any) -> Further:
        """Return a cost that was measured by the protocol of latencies."""
        explained = {"p50": found.p50_ms, "rounds": found.rounds, "flags": list(found.flags), **facts}
        return cls(found.ratio, True, found.reference_ms, explained)

    @classmethod
    def end_to_end(cls, found: Latency) -> Further:
        """Return a cost that was measured on different pictures, whose times differ.

        What that flags says nothing about the machine; the latency, timed just before, does.
        """
        return cls.interleaved(replace(found, flags=tuple(flag for flag in found.flags if flag not in _OF_PICTURES)))

    def estimate(self, base: float) -> Estimate:
        """Return the cost in its own unit; `base` is the base's, measured once per study."""
        return self.figure.scaled(base) if self.relative else self.figure

    @property
    def of_base(self) -> Estimate:
        """Return the base's cost, if it is the base that was measured: exact, since others are ratios to it."""
        return Estimate.exact(self.reference) if self.relative else self.figure

    def to_json(self) -> dict[str, Any]:
        return {
            "figure": self.figure.to_dict(),
            "relative": self.relative,
            "reference": self.reference,
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Further:
        """Invert `to_json`. Raises ValueError, KeyError or TypeError on anything else."""
        figure = Estimate(**data["figure"])
        return cls(figure, bool(data["relative"]), float(data["reference"]), dict(data["facts"]))


@dataclass(frozen=True)
class Costs:
    """A latency relative to the base, and further costs by the names of their figures."""

    latency: Latency
    further: Mapping[str, Further] = field(default_factory=dict)

    def figures(self, base_ms: float, base: Mapping[str, float]) -> dict[str, Estimate]:
        """Return the figures of a candidate; `base_ms` and `base` are latency and further costs of the base."""
        found = {name: one.estimate(base.get(name, one.reference)) for name, one in self.further.items()}
        return {"latency_ms": self.latency.in_ms(base_ms), **found}

    def of_base(self) -> dict[str, Estimate]:
        """Return the figures of the base, if it was measured against itself."""
        found = {name: one.of_base for name, one in self.further.items()}
        return {"latency_ms": Estimate.exact(self.latency.reference_ms), **found}

    @property
    def facts(self) -> dict[str, Any]:
        """Return the records of the further costs, for `Measurement.timing`; empty if there are none."""
        found = {name: one.to_json() for name, one in self.further.items()}
        return {"further": found} if found else {}

    @property
    def flags(self) -> tuple[tuple[str, str], ...]:
        """Return (figure, flag) of the further costs that were disturbed."""
        return tuple((name, flag) for name, one in self.further.items() for flag in one.facts.get("flags", ()))
