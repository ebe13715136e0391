"""What a study's budgets let allocation aim at."""

from __future__ import annotations

from pathlib import Path

from objectives.objective import Estimate
from search.evaluate.guided import limits_of, targets_of
from search.spec import load_spec
from search.trial import Measurement
from tests.pruning import zoo

BASE = Measurement(
    {
        "map50_95": Estimate.exact(0.6),
        "latency_ms": Estimate.exact(2.0),
        "params_m": Estimate.exact(3.0),
        "macs_g": Estimate.exact(1.0),
        "size_mb": Estimate.exact(6.0),
    }
)


def test_budgets_become_shares_of_the_base(workplace: Path) -> None:
    """Of latency with a margin, since it is predicted; of what is exact without. What the base keeps is no limit."""
    budgets = {
        "edge": {"latency_ms": 1.0},
        "flash": {"size_mb": 2.4, "params_m": 2.4},
        "both": {"latency_ms": 1.0, "macs_g": 0.5},
        "easy": {"latency_ms": 3.0, "params_m": 4.0},
        "fine": {"map50_95": 0.5},
    }
    spec = load_spec(workplace / "study.yaml", {"budgets": budgets, "constraints": {"params_m": "<=1.5"}})
    graph = zoo.traced("yolov8n.yaml")
    assert targets_of(spec, BASE) == (0.485,)
    found = [(one.cost, one.params, one.macs) for one in limits_of(spec, BASE, graph)]
    assert found == [(None, 0.4, None), (0.485, None, 0.5), (None, 0.5, None)]
