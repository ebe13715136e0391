"""The private names of Optuna that this project needs, each with a reason; nowhere else is one used.

tests/search/propose/optuna_backend/test_internals.py says of each what it has to do, so that a new Optuna that renames
one or changes its meaning fails there first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial


def begin(study: optuna.Study, template: FrozenTrial) -> optuna.Trial:
    """Start a RUNNING trial with all parameters of `template` in one transaction.

    `Study.ask` stores parameters one by one: that takes longer, and a crash between two leaves half a candidate.
    """
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, template_trial=template))


def again(study: optuna.Study, frozen: FrozenTrial) -> optuna.Trial:
    """Return a RUNNING trial of the storage as one that can be told, which a crash has taken from us.

    With a relative sampler this draws its parameters, as `Study.ask` does.
    """
    return optuna.Trial(study, frozen._trial_id)


def current(trial: optuna.Trial) -> FrozenTrial:
    """Return a trial as it is now, with constraints and system attributes, which the public properties lack."""
    return trial._get_latest_trial()


def enqueued_parameters(trial: optuna.Trial) -> Mapping[str, Any]:
    """Return the parameters that were enqueued instead of sampled."""
    found: Mapping[str, Any] = current(trial).system_attrs.get("fixed_params", {})
    return found


def suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    """Draw a parameter from a distribution object; the public methods take its parts."""
    return trial._suggest(name, distribution)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Tell whether a value lies within a distribution."""
    return distribution._contains(distribution.to_internal_repr(value))


class CmaEsOverTrials(optuna.samplers.CmaEsSampler):
    """CMA-ES that learns from trials as `seen` shows them: Optuna's reads their values only."""

    def seen(self, study: optuna.Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials to learn from; those of the study unless overridden."""
        return trials

    def _get_trials(self, study: optuna.Study) -> list[FrozenTrial]:
        return self.seen(study, super()._get_trials(study))
