"""What each private name of Optuna has to do for us. One that fails tells what a new Optuna has changed."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from search.propose.optuna_backend import internals

ROOT = Path(__file__).resolve().parents[4]
RATIO = FloatDistribution(0.0, 0.9)


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    return optuna.create_study(storage=f"sqlite:///{tmp_path}/study.db")


def _template() -> FrozenTrial:
    return optuna.trial.create_trial(
        state=TrialState.RUNNING, params={"stem": 0.25}, distributions={"stem": RATIO}, user_attrs={"source": "opening"}
    )


def test_begin_starts_a_trial_that_has_its_parameters_and_can_be_told(study: optuna.Study) -> None:
    trial = internals.begin(study, _template())
    stored = study.get_trials()[trial.number]
    assert (stored.state, stored.params, stored.user_attrs) == (
        TrialState.RUNNING,
        {"stem": 0.25},
        {"source": "opening"},
    )
    study.tell(trial, 1.0)
    assert study.get_trials()[trial.number].values == [1.0]


def test_again_returns_a_running_trial_of_the_storage_that_can_be_told(study: optuna.Study) -> None:
    internals.begin(study, _template())
    (stored,) = study.get_trials()
    trial = internals.again(study, stored)
    assert (trial.number, trial.params) == (stored.number, {"stem": 0.25})
    study.tell(trial, 2.0)
    assert study.get_trials()[stored.number].state == TrialState.COMPLETE


def test_current_has_constraints_and_system_attributes(study: optuna.Study) -> None:
    study.enqueue_trial({"stem": 0.5})
    trial = study.ask()
    trial.set_constraint("latency_ms<=5", 0.5)
    found = internals.current(trial)
    assert found.system_attrs["fixed_params"] == {"stem": 0.5}
    assert found.constraints == {"latency_ms<=5": 0.5}


def test_enqueued_parameters_are_those_that_a_user_asked_for(study: optuna.Study) -> None:
    study.enqueue_trial({"stem": 0.5})
    assert internals.enqueued_parameters(study.ask()) == {"stem": 0.5}
    assert internals.enqueued_parameters(study.ask()) == {}


def test_suggest_draws_from_the_distribution_and_stores(study: optuna.Study) -> None:
    trial = study.ask()
    drawn = internals.suggest(trial, "stem", RATIO)
    kind = internals.suggest(trial, "precision", CategoricalDistribution(("fp32", "int8")))
    assert study.get_trials()[0].params == {"stem": drawn, "precision": kind}
    assert 0.0 <= drawn <= 0.9 and kind in ("fp32", "int8")


@pytest.mark.parametrize(
    ("distribution", "value", "expected"),
    [
        (RATIO, 0.9, True),
        (RATIO, 0.91, False),
        (RATIO, -0.1, False),
        (CategoricalDistribution((320, 640)), 640, True),
    ],
)
def test_contains(distribution: optuna.distributions.BaseDistribution, value: float, expected: bool) -> None:
    assert internals.contains(distribution, value) is expected


def test_cma_es_learns_from_what_it_is_shown() -> None:
    shown: list[int] = []

    class Watched(internals.CmaEsOverTrials):
        def seen(self, study: optuna.Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
            shown.append(len(trials))
            return trials

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(sampler=Watched(seed=0, n_startup_trials=2))
    study.optimize(
        lambda trial: trial.suggest_float("x", -1, 1) ** 2 + trial.suggest_float("y", -1, 1) ** 2, n_trials=9
    )
    assert max(shown) >= 8


def test_no_other_module_uses_a_private_name_of_optuna() -> None:
    private = {"_storage", "_study_id", "_trial_id", "_suggest", "_get_latest_trial", "_contains", "_get_trials"}
    for path in sorted((ROOT / "search").rglob("*.py")):
        names = [
            node.attr
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self")
        ]
        assert path.name == "internals.py" or not private.intersection(names), path
