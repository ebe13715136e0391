"""Ranking of trials: feasibility, front, picks, hypervolume. Pure functions of records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from objectives import choice, pareto
from objectives.choice import Bound, Choice
from objectives.class_drop import largest_drop
from objectives.errors import NothingFits, ObjectiveError
from objectives.objective import DEPLOYED, Estimate, Objective
from objectives.paired import ranked_figures
from search.results.schema import PickRow, VolumePoint
from search.trial import Measurement, PointId, Trial, TrialState

Figures = Mapping[str, Estimate]
_WORST_SHARE = 1.05
"""Hypervolume counts what is better than 1.05 times the base's cost and than no accuracy at all."""
_WORST_ERROR = 3.0


@dataclass(frozen=True)
class Ranked:
    """The trials that can be chosen from, each with its figures.

    Attributes:
        trials: complete and within all constraints, in the order of their ids.
        front: ids of those on the front, given the measuring error (`objectives.pareto`).
        undominated: those that may yet be on it when further trials come in; the front is among them.
    """

    trials: tuple[Trial, ...]
    front: tuple[PointId, ...]
    undominated: tuple[PointId, ...] = ()

    @cached_property
    def rows(self) -> list[Figures]:
        """Figures of `trials`, with the intervals by which they are compared (`objectives.paired`)."""
        return [ranked_figures(trial.figures, trial.measured.paired) for trial in self.trials]

    @cached_property
    def on_front(self) -> frozenset[PointId]:
        """The front, to look up points in."""
        return frozenset(self.front)

    def having(self, names: Set[str]) -> Ranked:
        """Return the trials with these figures, which an export need not have; all if none has them."""
        known = tuple(trial for trial in self.trials if names <= trial.figures.keys())
        return replace(self, trials=known) if 0 < len(known) < len(self.trials) else self

    @property
    def labels(self) -> list[str]:
        """Names for sentences."""
        return [f"trial {trial.id}" for trial in self.trials]


def is_feasible(trial: Trial, bounds: Sequence[Bound]) -> bool:
    """Return whether the trial is complete and within every constraint whose figure was measured.

    An export was not measured end to end, for one: nobody knows whether it is within such a constraint, so it is not.
    """
    if trial.measurement is None:
        return False
    figures = trial.measurement.figures
    return not _unknown(trial, bounds) and all(bound.holds(figures) for bound in bounds if bound.name in figures)


def _unknown(trial: Trial, bounds: Sequence[Bound]) -> list[Bound]:
    """Return the constraints on costs of a deployed network that were not measured of an export."""
    lacking = [bound for bound in bounds if bound.name in DEPLOYED and bound.name not in trial.figures]
    return lacking if trial.exported else []


def broken(trial: Trial, bounds: Sequence[Bound], base: Measurement | None) -> tuple[str, ...]:
    """Describe the constraints that a measured trial violates, a few words each; a lost class by its name."""
    if trial.measurement is None:
        return ()
    figures = trial.measurement.figures
    missed = [bound for bound in bounds if bound.name in figures and not bound.holds(figures)]
    unknown = (f"no {bound.name} was measured of an export, against {bound}" for bound in _unknown(trial, bounds))
    return (*(_breach(bound, trial.measurement, base) for bound in missed), *unknown)


def _breach(bound: Bound, measured: Measurement, base: Measurement | None) -> str:
    text = f"{bound.objective.text(measured.figures[bound.name].value)} against {bound}"
    before = {} if base is None or bound.name != "per_class_drop" else base.per_class
    lost = largest_drop(before, measured.per_class, {})
    if lost is None:
        return text
    name, after = lost[0], measured.per_class.get(lost[0], 0.0)
    return f"class {name} fell from {before[name]:.3f} to {after:.3f}: {text}"


def rank(trials: Iterable[Trial], bounds: Sequence[Bound], objectives: Sequence[Objective]) -> Ranked:
    """Return the feasible trials that have every objective, and their front. Equal networks count once."""
    names = {objective.name for objective in objectives}

    def counts(trial: Trial) -> bool:
        measured = trial.state == TrialState.COMPLETE and trial.same_as is None
        return measured and is_feasible(trial, bounds) and names <= trial.figures.keys()

    chosen = tuple(filter(counts, sorted(trials, key=lambda trial: trial.id)))
    found = pareto.fronts(Ranked(chosen, ()).rows, objectives) if chosen else pareto.Fronts((), ())
    front, left = (tuple(chosen[i].id for i in indices) for indices in (found.significant, found.undominated))
    return Ranked(chosen, front, left)


def pick(ranked: Ranked, bounds: Sequence[Bound], objectives: Sequence[Objective]) -> tuple[Trial, str]:
    """Return the best trial within the bounds, and a sentence with the reason.

    Raises:
        NothingFits: no trial is within the bounds; `sentence` names the closest.
        ObjectiveError: there are no feasible trials yet.
    """
    known = ranked.having({bound.name for bound in bounds})
    chosen = choice.pick(known.rows, bounds, objectives, labels=known.labels)
    return _chosen(known, chosen)


def knee(ranked: Ranked, objectives: Sequence[Objective]) -> tuple[Trial, str]:
    """Return the trial after which more accuracy becomes expensive."""
    return _chosen(ranked, choice.knee(ranked.rows, objectives, labels=ranked.labels))


def one_se(ranked: Ranked, objectives: Sequence[Objective]) -> tuple[Trial, str]:
    """Return the smallest trial within one standard error of the most accurate."""
    return _chosen(ranked, choice.one_se(ranked.rows, objectives, labels=ranked.labels))


def picks(
    ranked: Ranked, budgets: Mapping[str, Sequence[Bound]], objectives: Sequence[Objective]
) -> dict[str, PickRow]:
    """Return budget name -> pick; its sentence gives the reason, or the closest trial."""
    found: dict[str, PickRow] = {}
    for name, bounds in budgets.items():
        try:
            trial, sentence = pick(ranked, bounds, objectives)
            found[name] = {"trial": str(trial.id), "sentence": sentence}
        except (NothingFits, ObjectiveError) as error:
            found[name] = {"trial": None, "sentence": str(error)}
    return found


@dataclass
class VolumeTrack:
    """Hypervolume after each trial, kept from one event to the next, since it is needed after every trial."""

    _points: pareto.Floats | None = None
    _corner: pareto.Floats | None = None
    _values: list[float] = field(default_factory=list)

    def upto(self, ranked: Ranked, objectives: Sequence[Objective], base: Measurement) -> list[VolumePoint]:
        """Return [{"trial", "value"}] by number.

        Computed are the values from the first trial on whose figures are new: of a trial that ends out of order, its
        own and those of the few later ones that had ended before it.
        """
        if not ranked.trials:
            return []
        points = pareto.costs(ranked.rows, objectives).value
        corner = pareto.volume_corner(objectives, volume_reference(base, objectives))
        known = self._known(points, corner)
        volume = pareto.GrowingVolume(points[:known], corner)
        self._values[known:] = [volume.add(point) for point in points[known:]]
        self._points, self._corner = points, corner
        return [{"trial": t.number, "value": v} for t, v in zip(ranked.trials, self._values, strict=True)]

    def _known(self, points: pareto.Floats, corner: pareto.Floats) -> int:
        """Return how many of the first values hold for these points too."""
        if self._points is None or self._corner is None or not np.array_equal(self._corner, corner):
            return 0
        count = min(len(points), len(self._points))
        changed = (points[:count] != self._points[:count]).any(axis=1)
        return int(changed.argmax()) if changed.any() else count


def outermost(bases: Sequence[Measurement], objectives: Sequence[Objective]) -> Measurement:
    """Return the first base, with the largest cost of any: volume counts up to there, whichever is named first."""
    first, *others = bases
    costs = {o.name: max((b.figures[o.name] for b in bases), key=lambda e: e.value) for o in objectives if o.is_cost}
    return replace(first, figures={**first.figures, **costs}) if others else first


def volume_reference(base: Measurement, objectives: Sequence[Objective]) -> dict[str, float]:
    """Return the worst acceptable figure per objective, from the base."""
    return {o.name: _worst(o, base.figures[o.name].value) for o in objectives}


def _worst(objective: Objective, base: float) -> float:
    """Return 0 for an accuracy; for an error, which is unbounded, three times the base's."""
    if objective.direction == "max":
        return 0.0
    return base * _WORST_SHARE if objective.is_cost else (_WORST_ERROR * base or 1.0)


def _chosen(ranked: Ranked, chosen: Choice) -> tuple[Trial, str]:
    return ranked.trials[chosen.index], chosen.sentence
