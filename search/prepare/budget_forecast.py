"""Predict whether a budget can be met, and at what loss, from the latency model of a run, before any trial."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from objectives.objective import Estimate
from pruning import ChannelGraph
from pruning.channels import work_of
from search.prepare.latency_probes import fit_correction, read_model, read_probes
from search.prepare.sensitivity_curves import read_curves
from search.propose.allocation import PLANNED
from search.propose.width_options import allocator_of
from search.space import Space


@dataclass(frozen=True)
class Forecast:
    """The predicted model for a latency limit.

    Attributes:
        latency_ms: predicted, with its 95 % interval.
        known: False if the shape is far from all that were timed, so that the prediction is a guess.
        params_m, macs_g: of the vector that allocation finds for the limit, exact.
        divergence: sum of the prices paid; 0 is a model that behaves as the base does.
    """

    latency_ms: Estimate
    known: bool
    params_m: float
    macs_g: float
    divergence: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**self.__dict__, "latency_ms": self.latency_ms.to_dict()}


def forecast(
    run: Path, graph: ChannelGraph, space: Space, round_to: int, base_ms: float, limit_ms: float
) -> Forecast | None:
    """Find the least harmful vector within a latency limit; None before the run has a latency model and curves."""
    latency, curves = read_model(run / "latency"), read_curves(run / "sensitivity")
    wanted = {d.name for d in space.dimensions} | {block.parameter for block in space.blocks}
    if latency is None or not wanted <= curves.keys():
        return None
    correction = fit_correction(graph, latency, read_probes(run / "latency"))
    allocator = allocator_of(graph, space, curves, round_to, latency, correction)
    vector = allocator.vector_within(PLANNED * limit_ms / base_ms, {})
    widths = allocator.widths(vector)
    work = work_of(graph, widths[None], vector.removed, latency.tile)[0]
    params, macs = graph.costs_without(vector.removed).of_many(np.asarray(widths)[None])
    return Forecast(
        latency.estimate(work.tolist()).scaled(base_ms),
        latency.knows(work.tolist()),
        float(params[0]) / 1e6,
        float(macs[0]) / 1e9,
        allocator.price(vector),
    )
