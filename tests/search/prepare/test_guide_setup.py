"""What a study's budgets let allocation aim at."""

from __future__ import annotations

from pathlib import Path

from objectives.objective import Estimate
from search.config.spec import StudySpec, load_spec
from search.prepare.guide_setup import limits_of, probe_seconds, targets_of
from search.trial import Measurement
from tests.pruning import zoo

BASE = Measurement(
    {
        "map50_95": Estimate.exact(0.6),
        "latency_ms": Estimate.exact(2.0),
        "params_m": Estimate.exact(3.0),
        "macs_g": Estimate.exact(1.0),
        "size_mb": Estimate.exact(12.05),
    }
)


BUDGETS = {
    "edge": {"latency_ms": 1.0},
    "flash": {"size_mb": 4.9, "params_m": 2.4},
    "both": {"latency_ms": 1.0, "macs_g": 0.5},
    "easy": {"latency_ms": 3.0, "params_m": 4.0},
    "fine": {"map50_95": 0.5},
}


def limits(spec: StudySpec) -> list[tuple[float | None, float | None, float | None]]:
    found = limits_of(spec, BASE, zoo.traced("yolov8n.yaml"))
    return [(one.cost, one.params, one.macs) for one in found if one is not None]


def test_budgets_become_shares_of_the_base(workplace: Path) -> None:
    """Of latency with a margin, since it is predicted; of a file without what is no weight; what the base keeps is no
    limit."""
    spec = load_spec(workplace / "study.yaml", {"budgets": BUDGETS})
    assert targets_of(spec, BASE) == (0.485,)
    assert limits(spec) == [(None, 0.4016, None), (0.485, None, 0.5)]


def test_constraints_hold_for_every_budget(workplace: Path) -> None:
    """A trial that breaks one is never picked; and they are aimed at themselves."""
    spec = load_spec(workplace / "study.yaml", {"budgets": BUDGETS, "constraints": {"params_m": "<=1"}})
    assert targets_of(spec, BASE) == ()
    third = 0.3333
    assert limits(spec) == [(None, third, None), (0.485, third, None), (0.485, third, 0.5)]


def test_a_probe_is_shorter_than_what_a_trial_is_ranked_by() -> None:
    assert [probe_seconds(limit) for limit in (1.0, 3.0, 6.0, 60.0)] == [0.5, 1.5, 1.5, 15.0]
