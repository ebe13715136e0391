"""A finished run of real plans, made without a training: what bench and the device kit need of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from objectives.objective import Estimate
from search.study import Study
from search.trial import Candidate, Measurement

SIZE = 64
RATIOS = {0: 0.2, 1: 0.5, 2: 0.75, 3: 0.5}
"""Trial -> share of channels removed. 1 and 3 keep different channels, equally many: one network to a clock."""


def make_planned_run(model: Path, data: Path, **overrides: Any) -> Study:
    """Four trials, all on the front; latencies here are made up, and fall with the number of the ratio."""
    import torch

    from pruning.checkpoints.checkpoint import load_model
    from tests import shelf

    study = Study(
        model=str(model),
        data=str(data),
        **{
            "imgsz": SIZE,
            "name": "planned",
            "latency.seconds": 0.3,
            "budgets": {"edge": {"latency_ms": 8}},
            **overrides,
        },
    )
    base = load_model(model)
    graph = shelf.trace(base, torch.zeros(1, 3, SIZE, SIZE))
    record = study.record
    record.write_args(study.spec.resolved(), {"model": "0" * 64, "data": "0" * 64})
    record.write_base(Measurement(_figures(0.5, 10.0, 3.0), {group.name: group.size for group in graph.groups}))
    for number, ratio in RATIOS.items():
        importance = "l1" if number == 3 else "l2"
        plan = graph.plan(ratio, importance=importance, round_to=8)
        candidate = Candidate({"all": ratio}, SIZE)
        record.start_trial(number, candidate, "test")
        accuracy, latency_ms = 0.5 - ratio / 10 - number / 1000, 10 * (1 - ratio / 2) - number / 1000
        figures = _figures(accuracy, latency_ms, 3 * (1 - ratio))
        record.write_outcome(number, Measurement(figures, plan.widths, plan.to_json(), plan.digest))
    return study


def _figures(accuracy: float, latency_ms: float, params_m: float) -> dict[str, Estimate]:
    exact = {"map50_95": accuracy, "latency_ms": latency_ms, "params_m": params_m}
    return {name: Estimate.exact(value) for name, value in exact.items()}
