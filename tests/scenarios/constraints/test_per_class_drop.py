"""`constraints: {per_class_drop: 0.1}`: whoever loses a class is refused, by name, everywhere."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from objectives.choice import Bound
from objectives.class_drop import largest_drop
from objectives.objective import Estimate, objectives_named
from search.config.spec import load_spec
from search.present.terminal.status import render_status
from search.present.terminal.tables import trials_table
from search.propose.optuna_backend.storage import sqlite_url
from search.propose.optuna_proposer import OptunaProposer
from search.results.ranking import broken, is_feasible, rank
from search.results.schema import FORMAT
from search.testing.known_front import known_space
from search.trial import Candidate, Measurement, Trial, TrialState

LIMIT = 0.1
BASE = {"cat": 0.6, "dog": 0.5, "owl": 0.3}
CLASSES = st.fixed_dictionaries({name: st.floats(0, 1) for name in BASE})


def measured(per_class: Mapping[str, float]) -> Measurement:
    drop = largest_drop(BASE, per_class, {})
    assert drop is not None
    mean = sum(per_class.values()) / len(per_class)
    figures = {"map50_95": mean, "latency_ms": 1.0, "params_m": 1.0, "per_class_drop": drop[1].value}
    return Measurement({k: Estimate.exact(v) for k, v in figures.items()}, per_class=per_class)


def trial(number: int, per_class: Mapping[str, float]) -> Trial:
    return Trial(number, TrialState.COMPLETE, Candidate({}), measured(per_class))


@given(CLASSES)
def test_a_trial_is_refused_exactly_if_a_class_lost_more_than_the_limit(per_class: dict[str, float]) -> None:
    bounds = [Bound.budget("per_class_drop", LIMIT)]
    lost = [name for name in BASE if BASE[name] - per_class[name] > LIMIT]
    one = trial(0, per_class)
    assert is_feasible(one, bounds) == (not lost)
    said = broken(one, bounds, measured(BASE))
    assert bool(said) == bool(lost)
    assert not lost or any(f"class {name} fell from" in said[0] for name in lost)


@given(st.lists(CLASSES, min_size=1, max_size=8))
def test_no_refused_trial_is_on_the_front(found: list[dict[str, float]]) -> None:
    bounds = [Bound.budget("per_class_drop", LIMIT)]
    trials = [trial(number, per_class) for number, per_class in enumerate(found)]
    ranked = rank(trials, bounds, objectives_named(["map50_95", "latency_ms"]))
    for one in ranked.trials:
        assert one.measurement is not None
        assert all(BASE[name] - one.measurement.per_class[name] <= LIMIT for name in BASE)


def test_the_study_takes_a_number(workplace: Path) -> None:
    spec = load_spec(workplace / "study.yaml", {"constraints": {"per_class_drop": LIMIT}})
    assert [str(bound) for bound in spec.bounds] == ["per_class_drop<=0.1"]


def test_the_sampler_is_told(tmp_path: Path) -> None:
    import optuna

    url = sqlite_url(tmp_path / "study.db")
    bounds = [Bound.budget("per_class_drop", LIMIT)]
    proposer = OptunaProposer(
        url, "guard", known_space(0.0, 0.8, (640,)), objectives_named(["map50_95", "latency_ms"]), bounds=bounds
    )
    for per_class in (BASE, {**BASE, "owl": 0.1}):
        proposer.tell(proposer.ask().number, measured(per_class))
    proposer.close()
    told = [one.constraints["per_class_drop<=0.1"] for one in optuna.load_study(study_name="guard", storage=url).trials]
    assert told[0] < 0 < told[1]


def test_the_table_names_the_class() -> None:
    said = broken(trial(0, {**BASE, "owl": 0.05}), [Bound.budget("per_class_drop", LIMIT)], measured(BASE))
    assert said == ("class owl fell from 0.300 to 0.050: 0.250 against per_class_drop<=0.1",)
    row = {"id": "0", "number": 0, "state": "complete", "feasible": False, "breaks": list(said), "figures": {}}
    table = trials_table({"objectives": [], "trials": [row], "base": None})
    assert said[0] in [str(cell) for column in table.columns for cell in column.cells]


def test_the_status_counts_who_was_refused() -> None:
    rows = [{"id": str(n), "number": n, "state": "complete", "feasible": n == 0, "figures": {}} for n in range(3)]
    snapshot = {"format": FORMAT, "name": "x", "state": "finished", "objectives": [], "trials": rows, "base": None}
    snapshot["constraints"] = [{"name": "per_class_drop", "op": "<=", "limit": LIMIT}]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render_status(snapshot))
    assert "per_class_drop <= 0.1: 2 trials refused" in console.export_text()
