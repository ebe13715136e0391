"""What a candidate must show before it is fine-tuned. A module of its own: the coordinator knows it before torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """The largest divergence with which a candidate is fine-tuned; `ladder.gate_for` makes it."""

    limit: float

    def admits(self, divergence: float) -> bool:
        """Whether a candidate climbs."""
        return divergence <= self.limit
