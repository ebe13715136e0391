"""What the trials of a study mean together: feasible, front, picks, hypervolume, verdict. Pure functions of records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from objectives import choice, pareto
from objectives.choice import Bound, Choice
from objectives.errors import NothingFits, ObjectiveError
from objectives.guard import largest_drop
from objectives.objective import Estimate, Objective
from search.trial import Measurement, Trial, TrialState

Figures = Mapping[str, Estimate]
_WORST_SHARE = 1.05
"""Hypervolume counts what is better than 1.05 times the base's cost and than no accuracy at all."""
_NEGLIGIBLE_LOSS = 0.01
"""One point of mAP: below it the verdict calls the accuracy kept."""


@dataclass(frozen=True)
class Ranked:
    """The trials that can be chosen from, each with its figures.

    Attributes:
        trials: complete and within all constraints, by number.
        front: numbers of those that no other dominates, given the measuring error.
    """

    trials: tuple[Trial, ...]
    front: tuple[int, ...]

    @property
    def rows(self) -> list[Figures]:
        """Figures of `trials`."""
        return [_figures(trial) for trial in self.trials]

    @property
    def labels(self) -> list[str]:
        """Names for sentences."""
        return [f"trial {trial.number}" for trial in self.trials]


def is_feasible(trial: Trial, bounds: Sequence[Bound]) -> bool:
    """Complete, and within every constraint whose figure was measured."""
    if trial.measurement is None:
        return False
    figures = trial.measurement.figures
    return all(bound.holds(figures) for bound in bounds if bound.name in figures)


def broken(trial: Trial, bounds: Sequence[Bound], base: Measurement | None) -> tuple[str, ...]:
    """The constraints that a measured trial breaks, a few words each; a lost class by its name."""
    if trial.measurement is None:
        return ()
    figures = trial.measurement.figures
    missed = [bound for bound in bounds if bound.name in figures and not bound.holds(figures)]
    return tuple(_breach(bound, trial.measurement, base) for bound in missed)


def _breach(bound: Bound, measured: Measurement, base: Measurement | None) -> str:
    text = f"{bound.objective.text(measured.figures[bound.name].value)} against {bound}"
    before = {} if base is None or bound.name != "per_class_drop" else base.per_class
    lost = largest_drop(before, measured.per_class, {})
    if lost is None:
        return text
    name, after = lost[0], measured.per_class.get(lost[0], 0.0)
    return f"class {name} fell from {before[name]:.3f} to {after:.3f}: {text}"


def rank(trials: Iterable[Trial], bounds: Sequence[Bound], objectives: Sequence[Objective]) -> Ranked:
    """Feasible trials that have every objective, and their front. A network that came up twice counts once."""
    names = {objective.name for objective in objectives}

    def counts(trial: Trial) -> bool:
        measured = trial.state == TrialState.COMPLETE and trial.same_as is None
        return measured and is_feasible(trial, bounds) and names <= _figures(trial).keys()

    chosen = tuple(filter(counts, sorted(trials, key=lambda trial: trial.number)))
    indices = pareto.front([_figures(trial) for trial in chosen], objectives) if chosen else ()
    return Ranked(chosen, tuple(chosen[index].number for index in indices))


def pick(ranked: Ranked, bounds: Sequence[Bound], objectives: Sequence[Objective]) -> tuple[Trial, str]:
    """Best trial within the bounds, and the sentence that says why.

    Raises:
        NothingFits: no trial is within the bounds; `sentence` names the closest.
        ObjectiveError: no trial can be chosen from yet.
    """
    chosen = choice.pick(ranked.rows, bounds, objectives, labels=ranked.labels)
    return _chosen(ranked, chosen)


def knee(ranked: Ranked, objectives: Sequence[Objective]) -> tuple[Trial, str]:
    """The trial after which more accuracy becomes expensive."""
    return _chosen(ranked, choice.knee(ranked.rows, objectives, labels=ranked.labels))


def one_se(ranked: Ranked, objectives: Sequence[Objective]) -> tuple[Trial, str]:
    """The smallest trial within one standard error of the most accurate."""
    return _chosen(ranked, choice.one_se(ranked.rows, objectives, labels=ranked.labels))


def picks(
    ranked: Ranked, budgets: Mapping[str, Sequence[Bound]], objectives: Sequence[Objective]
) -> dict[str, dict[str, object]]:
    """Budget name -> {"trial": number or None, "sentence"}: the sentence says why, or what came closest."""
    found: dict[str, dict[str, object]] = {}
    for name, bounds in budgets.items():
        try:
            trial, sentence = pick(ranked, bounds, objectives)
            found[name] = {"trial": trial.number, "sentence": sentence}
        except (NothingFits, ObjectiveError) as error:
            found[name] = {"trial": None, "sentence": str(error)}
    return found


@dataclass
class VolumeTrack:
    """Hypervolume after each trial. Keeps what it computed, because it is asked after every trial."""

    _numbers: list[int] = field(default_factory=list)
    _values: list[float] = field(default_factory=list)

    def upto(self, ranked: Ranked, objectives: Sequence[Objective], base: Measurement) -> list[dict[str, float]]:
        """[{"trial", "value"}] by number. A trial that ends out of order makes it compute again."""
        numbers = [trial.number for trial in ranked.trials]
        if numbers[: len(self._numbers)] != self._numbers:
            self._numbers, self._values = [], []
        reference = volume_reference(base, objectives)
        rows = ranked.rows
        for end in range(len(self._numbers), len(numbers)):
            self._values.append(pareto.hypervolume(rows[: end + 1], objectives, reference))
        self._numbers = numbers
        return [{"trial": n, "value": v} for n, v in zip(numbers, self._values, strict=True)]


def volume_reference(base: Measurement, objectives: Sequence[Objective]) -> dict[str, float]:
    """The worst acceptable figure per objective, from the base."""
    return {o.name: 0.0 if o.direction == "max" else base.figures[o.name].value * _WORST_SHARE for o in objectives}


def verdict(ranked: Ranked, base: Measurement, objectives: Sequence[Objective], measured: int) -> str:
    """One sentence: was pruning worth it. Compared are the first accuracy and the first cost of the study.

    Args:
        measured: trials that are complete, feasible or not.
    """
    gain = next((o for o in objectives if o.direction == "max"), None)
    cost = next((o for o in objectives if o.direction == "min"), None)
    if not measured:
        return "No trial has been measured yet."
    if not ranked.trials:
        return f"None of {measured} measured trials is within the constraints."
    if gain is None or cost is None:
        return f"{len(ranked.front)} of {len(ranked.trials)} trials are on the front."
    on_front = [trial for trial in ranked.trials if trial.number in ranked.front]
    floor = base.figures[gain.name].value - _NEGLIGIBLE_LOSS
    kept = [trial for trial in on_front if _figures(trial)[gain.name].value >= floor]
    if kept:
        best = min(kept, key=lambda trial: _figures(trial)[cost.name].value)
        if _figures(best)[cost.name].high < base.figures[cost.name].low:
            return f"Worth it: {_tradeoff(best, base, gain, cost)}."
    best = max(on_front, key=lambda trial: _figures(trial)[gain.name].value)
    if _figures(best)[cost.name].high < base.figures[cost.name].low:
        return f"Worth it only if accuracy can be given up: {_tradeoff(best, base, gain, cost)}."
    return f"Not worth it so far: no trial has less {cost.title.lower()} than the base at an accuracy near it."


def _tradeoff(trial: Trial, base: Measurement, gain: Objective, cost: Objective) -> str:
    figures = _figures(trial)
    before, after = base.figures[cost.name].value, figures[cost.name].value
    points = 100 * (figures[gain.name].value - base.figures[gain.name].value)
    return (
        f"trial {trial.number} has {100 * (1 - after / before):.0f} % less {cost.title.lower()} than the base "
        f"({cost.text(after)} instead of {cost.text(before)}) at {points:+.1f} points of {gain.title}"
    )


def _chosen(ranked: Ranked, chosen: Choice) -> tuple[Trial, str]:
    return ranked.trials[chosen.index], chosen.sentence


def _figures(trial: Trial) -> Figures:
    assert trial.measurement is not None
    return trial.measurement.figures
