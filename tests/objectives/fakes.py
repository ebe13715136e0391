"""Runners on a simulated clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass
class SimulatedClock:
    """Time passes only when a runner runs."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeRunner:
    """An inference of `seconds`, times noise, times what the hour brings; `spikes` is the share of slow
    ones."""

    clock: SimulatedClock
    seconds: float
    noise: float = 0.01
    spikes: float = 0.0
    weather: Callable[[float], float] = lambda _: 1.0
    seed: int = 0
    runs: int = 0
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def run(self) -> None:
        self.runs += 1
        factor = float(np.exp(self.random.normal(0, self.noise)))
        if self.random.random() < self.spikes:
            factor += self.random.exponential(3)
        self.clock.now += self.seconds * factor * self.weather(self.clock.now)

    def describe(self) -> Mapping[str, str | int]:
        return {"runtime": "fake"}
