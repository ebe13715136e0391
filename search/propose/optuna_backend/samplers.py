"""Samplers that Optuna lacks: resumable Sobol points, and CMA-ES under constraints."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.propose.optuna_backend.internals import CmaEsOverTrials


class Sobol(BaseSampler):
    """Scrambled Sobol points, the n-th trial taking the n-th point (Joe and Kuo 2008, through scipy)."""

    def __init__(self, seed: int, distributions: Mapping[str, BaseDistribution]) -> None:
        self._seed = seed
        self._space = {n: d for n, d in distributions.items() if not d.single()}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._space

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        from scipy.stats import qmc

        engine = qmc.Sobol(len(search_space), scramble=True, rng=np.random.default_rng(self._seed))
        if trial.number:  # scipy cannot skip no points
            engine.fast_forward(trial.number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that one point is not balanced
            point = engine.random(1)[0]
        return {n: _at(d, float(u)) for (n, d), u in zip(search_space.items(), point, strict=True)}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        raise AssertionError(f"{param_name} is not in the space of the study")


class ConstrainedCmaEs(CmaEsOverTrials):
    """CMA-ES (Hansen and Ostermeier 2001) that knows constraints, of which Optuna's does not.

    It uses ranks only, so candidates are ranked by Deb's rules (2000, "An efficient constraint handling method for
    genetic algorithms"): infeasible ones are worse than all feasible ones, by the size of their violation. The values
    in the storage are the measured ones.
    """

    def seen(self, study: optuna.Study, trials: list[FrozenTrial]) -> list[FrozenTrial]:
        """Return the trials, those that break a constraint with a value beyond the worst."""
        sign = 1 if study.direction == StudyDirection.MINIMIZE else -1
        worst = max((sign * trial.values[0] for trial in trials), default=0.0)
        return [_penalised(trial, worst, sign) for trial in trials]

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Do nothing: Optuna's method only warns that constraints are not used."""


def _penalised(trial: FrozenTrial, worst: float, sign: int) -> FrozenTrial:
    """Return an infeasible trial with a value beyond the worst; a feasible one unchanged."""
    excess = sum(max(0.0, broken) for broken in trial.constraints.values())
    if not excess:
        return trial
    found = copy.copy(trial)
    found.values = [sign * (worst + excess)]
    return found


def _at(distribution: BaseDistribution, share: float) -> Any:
    """Return the value at `share` (0 to below 1) of a distribution."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(share * len(distribution.choices))]
    if not isinstance(distribution, FloatDistribution):
        raise TypeError(f"a distribution of the space is a range or a choice, not {distribution}")
    return distribution.low + share * (distribution.high - distribution.low)
