"""Optuna behind the Proposer seam.

A resumed study repeats the same sequence (tested with Optuna 5.0) because of:
  * a fresh sampler for every ask, seeded from (study seed, trial number); a long-lived sampler would have random
    state that a restart loses. NSGA-II reads earlier generations from the storage.
  * a trial that was asked but not told stays RUNNING and is completed, parameter by parameter, with the draws of an
    uninterrupted ask.
  * quasi-random points are addressed by trial number: Optuna's own QMCSampler counts calls, also interrupted ones.
  * CMA-ES keeps its state with the trials and is seeded anew for every ask (Optuna's own design).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from objectives.choice import Bound
from objectives.objective import Estimate, Objective
from search.errors import ConfigError, ParetoPruneError, RunCorrupt
from search.propose.guided import Adviser, GoingOn, Observation
from search.propose.optuna_backend import internals
from search.propose.optuna_backend.samplers import ConstrainedCmaEs, Sobol
from search.propose.optuna_backend.storage import close_storage, open_storage, quiet
from search.propose.promotion import Effort
from search.propose.proposer import History, Proposal, Told
from search.run_folder.enqueue import Request
from search.run_folder.storage_errors import storage_errors
from search.space import AnySpace
from search.trial import Candidate, Failure, Measurement, Outcome, Promotion, ScreeningLimit, Trial

_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
_SOURCE = "source"
_GATE = "gate"
_REQUEST = "request"
_PROMOTION = "promotion"
_USER = "user"
_NSGA2_POPULATION = 20
_RANDOM_AFTER_OPENING = 5
_MIN_STARTUP = 10


class OptunaProposer:
    """Ask/tell over one Optuna study.

    Args:
        storage: SQLAlchemy URL; `sqlite_url` makes the one of a run.
        name: name of the Optuna study, as optuna-dashboard shows it.
        sampler: auto, tpe, nsga2, random, qmc, gp or cmaes.
        opening: candidates that `auto` asks first.
        guide: proposes the later ones of `auto`; None: TPE.
        workers: above 1, TPE penalises points near running trials.
    """

    def __init__(
        self,
        storage: str,
        name: str,
        space: AnySpace,
        objectives: Sequence[Objective],
        *,
        bounds: Sequence[Bound] = (),
        sampler: str = "auto",
        seed: int = 0,
        workers: int = 1,
        opening: Sequence[Candidate] = (),
        guide: Adviser | None = None,
    ) -> None:
        quiet()
        self._space = space
        self._objectives = tuple(objectives)
        self._bounds = tuple(bounds)
        self._kind = sampler
        self._seed = seed
        self._workers = workers
        self._opening = tuple(opening) if sampler == "auto" else ()
        self._guide = guide if sampler == "auto" else None
        self._remembered: dict[int, Observation] = {}
        self._distributions = _distributions(space)
        self._backend = open_storage(storage)
        self._storage = optuna.storages.get_storage(self._backend)
        self._study = self._open_study(name)
        self._asked: dict[int, optuna.Trial] = {}

    def history(self) -> History:
        """Return the history; RUNNING trials are proposed again under their number with their parameters."""
        with storage_errors():
            trials = self._study.get_trials(deepcopy=False)
            told = {trial.number: self._was_told(trial) for trial in trials if trial.state.is_finished()}
            running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            return History(tuple(self._again(trial) for trial in running), told)

    def _was_told(self, trial: FrozenTrial) -> Told:
        attrs, candidate = trial.user_attrs, self._candidate(trial)
        if trial.state != TrialState.COMPLETE:
            return Told(candidate, {}, str(attrs.get("error", "")))
        return Told(candidate, attrs["figures"], same_as=attrs.get("same_as"))

    def adopt(self, trials: Sequence[Trial]) -> None:
        """Take over trials that the storage has lost. What a sampler had noted beside them, and limits of a screening
        of pending ones, are lost. Raises OSError if the disk is full or fails.
        """
        for trial in trials:
            attrs = {_SOURCE: trial.source, **_promoted(trial.candidate)}
            if trial.source == _USER:
                attrs[_REQUEST] = f"trial {trial.number}"
            with storage_errors():
                self._asked[trial.number] = self._begun(trial.candidate, attrs)
            if trial.outcome is not None:
                self.tell(trial.number, trial.outcome, trial.same_as)

    def ask(self, left_s: float | None = None) -> Proposal:
        """Return the next proposal. Raises OSError if the disk is full or fails."""
        with storage_errors():
            trials = self._study.get_trials(deepcopy=False)
            waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
            number = min(waiting, default=len(trials))  # enqueued candidates first
            known = None if waiting else self._known(number, trials, left_s)
            self._study.sampler = optuna.samplers.RandomSampler() if known else self._fresh_sampler(number)
            with _experimental(), _one_thread(self._kind):
                trial = self._begun(*known) if known else self._study.ask()
                if trial.number != number:
                    raise RunCorrupt(f"trial {trial.number} was created by another process", expected=str(number))
                return self._proposal(trial)

    def tell(self, number: int, outcome: Outcome, same_as: int | None = None) -> None:
        """Report a trial's outcome. A measurement that lacks an objective is told as failed.

        Raises OSError if the disk is full or fails; then it can be told again.
        """
        trial = self._asked.get(number)
        if trial is None:
            return
        with storage_errors(), suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._tell(trial, outcome, same_as)  # it is finished where a server took it in and could not say so
        del self._asked[number]

    def _tell(self, trial: optuna.Trial, outcome: Outcome, same_as: int | None) -> None:
        values = self._values(self._completed(trial, outcome))
        if values is None or isinstance(outcome, Failure):
            trial.set_user_attr("error", outcome.message if isinstance(outcome, Failure) else Told.LACKS_A_FIGURE)
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            return
        self._annotate(trial, outcome, same_as)
        self._study.tell(trial, values, skip_if_finished=True)

    def enqueue(self, request: Request) -> None:
        """Propose this candidate next. Raises OSError if the disk is full or fails; then it can be enqueued again."""
        with storage_errors():
            trials = self._study.get_trials(deepcopy=False)
            if any(trial.user_attrs.get(_REQUEST) == request.name for trial in trials):
                return
            point = _point_within(self._space, request.candidate, self._distributions)
            self._study.enqueue_trial(point, user_attrs={_SOURCE: _USER, _REQUEST: request.name})

    def close(self) -> None:
        close_storage(self._backend)

    def _open_study(self, name: str) -> optuna.Study:
        directions = [_DIRECTIONS[objective.direction] for objective in self._objectives]
        try:
            with storage_errors():
                study = optuna.create_study(
                    storage=self._storage, study_name=name, directions=directions, load_if_exists=True
                )
        except (ParetoPruneError, OSError):
            raise
        except Exception as error:
            raise RunCorrupt(f"the Optuna storage cannot be opened: {error}", where=name) from error
        if list(study.directions) != directions:
            wanted = ", ".join(objective.name for objective in self._objectives)
            raise RunCorrupt("the Optuna study has other objectives", where=name, expected=wanted)
        with _experimental():
            study.set_metric_names([objective.name for objective in self._objectives])
        return study

    def _known(
        self, number: int, trials: Sequence[FrozenTrial], left_s: float | None
    ) -> tuple[Candidate, dict[str, Any]] | None:
        """Return the next initial or guided candidate and its trial's attributes; None if the sampler draws it."""
        # What a person asked for takes a number of its own, not the place of a candidate of the opening.
        turn = number - sum(_REQUEST in trial.user_attrs for trial in trials)
        if turn < len(self._opening):
            return self._opening[turn], {_SOURCE: "opening"}
        if self._guide is None:
            return None
        newest = trials[-1].user_attrs if trials else {}  # never two in a row: what new candidates add would age
        going_on = None if _PROMOTION in newest else GoingOn(self._barred(trials), left_s)
        advice = self._guide.advise(number, self._told(self._guide), going_on)
        screening = None if advice.screening is None else advice.screening.limit
        return advice.candidate, {_SOURCE: advice.source, _GATE: screening, **_promoted(advice.candidate)}

    def _barred(self, trials: Iterable[FrozenTrial]) -> frozenset[int]:
        """Return the numbers of the trials that may not go on: others continue them, or they break a constraint."""
        broken = (trial.number for trial in trials if any(excess > 0 for excess in trial.constraints.values()))
        return _continued(trials) | frozenset(broken)

    def _candidate(self, trial: FrozenTrial | optuna.Trial) -> Candidate:
        """Return the candidate of a stored trial: the vector of its parameters, and its promotion."""
        promotion = trial.user_attrs.get(_PROMOTION)
        return self._space.candidate(trial.params).promoted(None if promotion is None else Promotion(**promotion))

    def _begun(self, candidate: Candidate, attrs: Mapping[str, Any]) -> optuna.Trial:
        point = self._space.vector(candidate)
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING, params=point, distributions=self._distributions, user_attrs=dict(attrs)
        )
        return internals.begin(self._study, template)

    def _told(self, guide: Adviser) -> list[Observation]:
        """Return every told trial as an observation of the guide, by number."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if trial.number not in self._remembered:
                attrs, candidate = trial.user_attrs, self._candidate(trial)
                # absent in trials of a version before promotions; a copy has no weights of its own
                seconds = None if "same_as" in attrs else attrs.get("seconds")
                effort = None if seconds is None else Effort(trial.number, candidate, attrs.get("epochs"), seconds)
                self._remembered[trial.number] = guide.told(
                    candidate, attrs["figures"], attrs.get("score"), bool(attrs.get("screened")), effort
                )
        return [self._remembered[number] for number in sorted(self._remembered)]

    def _completed(self, trial: optuna.Trial, outcome: Outcome) -> Outcome:
        """Give a screened candidate its expected accuracy, so that every sampler learns from it."""
        guide = self._guide
        if guide is None or not isinstance(outcome, Measurement) or not outcome.screened or outcome.score is None:
            return outcome
        value = guide.estimated(self._told(guide), self._candidate(trial), outcome.score)
        figures = {**outcome.figures, guide.gain.name: Estimate.exact(value)}
        return replace(outcome, figures=figures)

    def _again(self, frozen: FrozenTrial) -> Proposal:
        self._study.sampler = self._fresh_sampler(frozen.number)
        with _experimental(), _one_thread(self._kind):
            return self._proposal(internals.again(self._study, frozen))

    def _proposal(self, trial: optuna.Trial) -> Proposal:
        if self._distributions.keys() - trial.params.keys():  # else nothing is to be drawn
            for name, distribution in self._distributions.items():
                self._skip_draw(trial, name, distribution)
                internals.suggest(trial, name, distribution)
        if _SOURCE not in trial.user_attrs:
            trial.set_user_attr(_SOURCE, _USER if internals.enqueued_parameters(trial) else self._sampler_name())
        self._asked[trial.number] = trial
        source = str(trial.user_attrs[_SOURCE])
        limit = trial.user_attrs.get(_GATE)
        return Proposal(trial.number, self._candidate(trial), source, None if limit is None else ScreeningLimit(limit))

    def _skip_draw(self, trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
        """A parameter that a cut ask had stored already is not drawn again, but its random number is used up."""
        if name not in trial.params or name in internals.enqueued_parameters(trial):
            return
        if distribution.single() or name in trial.relative_params:
            return
        self._study.sampler.sample_independent(self._study, internals.current(trial), name, distribution)

    def _sampler_name(self) -> str:
        return "tpe" if self._kind == "auto" else self._kind

    def _fresh_sampler(self, number: int) -> BaseSampler:
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        with _experimental():
            return self._sampler(seed)

    def _sampler(self, seed: int) -> BaseSampler:
        startup = max(_MIN_STARTUP, len(self._opening) + _RANDOM_AFTER_OPENING)
        if self._kind in ("auto", "tpe"):
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, n_startup_trials=startup, constant_liar=self._workers > 1
            )
        if self._kind == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=_NSGA2_POPULATION)
        if self._kind == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self._kind == "qmc":
            return Sobol(self._seed, self._distributions)
        if self._kind == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
        if self._kind == "cmaes":
            return ConstrainedCmaEs(seed=seed, warn_independent_sampling=False)
        raise ConfigError(f"no sampler {self._kind!r}", where="search.sampler", expected="auto, tpe, nsga2, ...")

    def _values(self, outcome: Outcome) -> list[float] | None:
        if isinstance(outcome, Failure):
            return None
        if any(objective.name not in outcome.figures for objective in self._objectives):
            return None
        return [outcome.figures[objective.name].value for objective in self._objectives]

    def _annotate(self, trial: optuna.Trial, measured: Measurement, same_as: int | None) -> None:
        """Store attributes for optuna-dashboard, and the constraints that guide the sampler."""
        trial.set_user_attr("figures", {name: estimate.value for name, estimate in measured.figures.items()})
        trial.set_user_attr("widths", dict(measured.widths))
        trial.set_user_attr("digest", measured.digest)
        trial.set_user_attr("score", measured.score)
        trial.set_user_attr("screened", measured.screened)
        trial.set_user_attr("epochs", measured.epochs)
        trial.set_user_attr("seconds", 0.0 if same_as is not None else sum(measured.seconds.values()))
        if same_as is not None:
            trial.set_user_attr("same_as", same_as)
        told = internals.current(trial).constraints
        for bound in self._bounds:
            if bound.name in measured.figures and str(bound) not in told:
                trial.set_constraint(str(bound), bound.excess(measured.figures))


def _point_within(
    space: AnySpace, candidate: Candidate, distributions: Mapping[str, BaseDistribution]
) -> dict[str, Any]:
    """Return the candidate as a vector of the space. Raises ConfigError if it lies outside."""
    try:
        point = space.vector(candidate)
    except KeyError as error:
        raise ConfigError(f"the candidate has no ratio for {error}", where="enqueue") from error
    for name, distribution in distributions.items():
        if name in point and not internals.contains(distribution, point[name]):
            raise ConfigError(f"{name}={point[name]} is not in the space", where="enqueue", expected=str(distribution))
    return point


def _promoted(candidate: Candidate) -> dict[str, Any]:
    """Return the attribute that keeps a promotion, which is no parameter of the space."""
    given = candidate.promotion
    return {} if given is None else {_PROMOTION: asdict(given)}


def _continued(trials: Iterable[FrozenTrial]) -> frozenset[int]:
    """Return the numbers of the trials that another continues, whatever became of it."""
    given = (trial.user_attrs.get(_PROMOTION) for trial in trials)
    return frozenset(one["trial"] for one in given if one is not None and one["trial"] is not None)


def _distributions(space: AnySpace) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {d.name: FloatDistribution(d.low, d.high) for d in space.dimensions}
    return found | {name: CategoricalDistribution(values) for name, values in space.choices().items()}


@contextmanager
def _experimental() -> Iterator[None]:
    """Use what Optuna calls experimental, without its warning each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield


@contextmanager
def _one_thread(kind: str) -> Iterator[None]:
    """Limit the Gaussian process to one thread: PyTorch computes it on matrices too small for several.

    Beside a training more threads only wait for each other: ten dimensions and 25 trials took 2.3 s an ask with two
    threads, 0.9 s with one. One thread also adds in a fixed order, which a resumed study needs.
    """
    if kind != "gp":
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
