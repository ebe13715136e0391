"""Verdict: the search compared with the baselines in one sentence, even if it loses. Pure functions of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from objectives.objective import Objective, first_accuracy, first_cost
from search.config.baseline_names import TRAINED
from search.results.baseline_results import BaselineResult
from search.results.ranking import Figures, Ranked
from search.trial import Measurement, Trial

_NEAR = 0.03
"""Share of a cost within which two models count as equally fast, where the measuring error says nothing."""


@dataclass(frozen=True)
class BaselineComparison:
    """A baseline, and the best trial that costs no more than it does; None if every trial costs more."""

    row: BaselineResult
    trial: Trial | None
    gain: Objective
    cost: Objective

    @property
    def lead(self) -> float:
        """By how much the trial is better, in the unit of the accuracy; minus infinity if there is none."""
        return float("-inf") if self.trial is None else _signed(self.trial.figures, self.gain) - self.row_gain

    @property
    def row_gain(self) -> float:
        """The baseline's accuracy; more is better."""
        return _signed(figures_of(self.row), self.gain)

    @property
    def is_close(self) -> bool:
        """True if the difference is within the measuring error."""
        name, own = self.gain.name, figures_of(self.row)
        return self.trial is not None and self.trial.figures[name].overlaps(own[name])


def compared_verdict(
    ranked: Ranked,
    rows: Sequence[BaselineResult],
    base: Measurement,
    objectives: Sequence[Objective],
    measured: int,
) -> str:
    """Return whether pruning was worth it: against the base, and against the best baseline at the same cost.

    Args:
        measured: trials that are complete, feasible or not.
    """
    said = verdict(ranked, base, objectives, measured)
    pairs = compare_baselines(ranked, rows, base, objectives)
    if not pairs or says_nothing(base, pairs[0].gain):
        return said
    chosen = verdict_trial(ranked, base, objectives)
    better = [pair for pair in pairs if chosen is not None and _is_better(pair, chosen)]
    if better:
        return _lost(max(better, key=lambda pair: pair.row_gain))
    hardest = min(pairs, key=lambda pair: (pair.trial is None, pair.lead))
    if hardest.trial is not None and (hardest.lead >= 0 or hardest.is_close):
        return f"{said} {_held(hardest, hardest.trial)}"
    return f"{said} But {_lost(hardest, first=False)}"


def compare_baselines(
    ranked: Ranked, rows: Sequence[BaselineResult], base: Measurement, objectives: Sequence[Objective]
) -> list[BaselineComparison]:
    """Return one comparison for each baseline that has both figures and costs less than the base."""
    gain, cost = first_accuracy(objectives), first_cost(objectives)
    if gain is None or cost is None or not ranked.trials:
        return []
    known = [row for row in rows if {gain.name, cost.name} <= figures_of(row).keys()]
    cheaper = [row for row in known if figures_of(row)[cost.name].value < base.figures[cost.name].value]
    return [BaselineComparison(row, _within(ranked, row, gain, cost), gain, cost) for row in cheaper]


def _within(ranked: Ranked, row: BaselineResult, gain: Objective, cost: Objective) -> Trial | None:
    limit = figures_of(row)[cost.name]
    most = max(limit.high, limit.value * (1 + _NEAR))
    fitting = [trial for trial in ranked.trials if trial.figures[cost.name].value <= most]
    return max(fitting, key=lambda trial: _signed(trial.figures, gain), default=None)


def _is_better(pair: BaselineComparison, chosen: Trial) -> bool:
    """Return whether the baseline costs no more than the verdict's trial, and is not less accurate."""
    limit = chosen.figures[pair.cost.name]
    if figures_of(pair.row)[pair.cost.name].value > max(limit.high, limit.value * (1 + _NEAR)):
        return False
    return pair.row_gain >= _signed(chosen.figures, pair.gain)


def _held(pair: BaselineComparison, trial: Trial) -> str:
    """Format `At 3.4 ms pruning keeps 0.619; the base at 480 px has 0.580 at that latency.`"""
    found, row = trial.figures, figures_of(pair.row)
    kept = f"At {pair.cost.text(found[pair.cost.name].value)} {_who(pair)} keeps "
    kept += pair.gain.text(found[pair.gain.name].value)
    other = f"{pair.row.name} has {pair.gain.text(row[pair.gain.name].value)} at {_where(pair, trial)}"
    doubt = ", which is within the error" if pair.is_close else ""
    return f"{kept}; {other}{doubt}."


def _lost(pair: BaselineComparison, *, first: bool = True) -> str:
    """Format `Not worth it: the base at 480 px has 0.630 at 3.4 ms, the best trial within that (17) 0.619.`"""
    row, title = figures_of(pair.row), pair.cost.title.lower()
    head = "Not worth it: " if first else ""
    other = f"{pair.row.name} has {pair.gain.text(row[pair.gain.name].value)}"
    at = f"at {pair.cost.text(row[pair.cost.name].value)}"
    if pair.trial is None:
        return f"{head}{other} {at}, and no trial has so little {title}."
    best = f"trial {pair.trial.id}, the best within that {title},"
    return f"{head}{other} {at}; {best} has {pair.gain.text(pair.trial.figures[pair.gain.name].value)}."


def _who(pair: BaselineComparison) -> str:
    """Name the side that lost: baselines pruned without a search compete with the search, not with pruning."""
    return "the search" if pair.row.kind in TRAINED else "pruning"


def _where(pair: BaselineComparison, trial: Trial) -> str:
    """Return `that latency`, or the baseline's own if it differs."""
    title = f"that {pair.cost.title.lower()}"
    own, found = figures_of(pair.row)[pair.cost.name].value, trial.figures[pair.cost.name].value
    return title if abs(own - found) <= _NEAR * found else f"{pair.cost.text(own)}"


def _signed(figures: Figures, gain: Objective) -> float:
    """Return the figure with a sign such that more is better, also for an error."""
    value = figures[gain.name].value
    return value if gain.direction == "max" else -value


def figures_of(row: BaselineResult) -> Figures:
    """Return the baseline's figures; none if it could not be measured."""
    return {} if row.measured is None else row.measured.figures


_NEGLIGIBLE_LOSS = 0.01
"""One point of mAP: below it the verdict calls the accuracy kept."""
_NEGLIGIBLE_SHARE = 0.02
"""The same for a figure with a unit of its own: a share of the base's, or its standard error if that is more."""


def verdict(ranked: Ranked, base: Measurement, objectives: Sequence[Objective], measured: int) -> str:
    """Return whether pruning was worth it, by the first accuracy and the first cost of the study.

    Args:
        measured: trials that are complete, feasible or not.
    """
    gain, cost = first_accuracy(objectives), first_cost(objectives)
    if not measured:
        return "No trial has been measured yet."
    if not ranked.trials:
        return f"None of {measured} measured trials is within the constraints."
    if gain is None or cost is None:
        return f"{len(ranked.front)} of {len(ranked.trials)} trials are on the front."
    if says_nothing(base, gain):
        return (
            f"No verdict: the base itself has a {gain.title} of 0 on this data, so there is nothing to lose. "
            f"Check that model and data belong together."
        )
    best = verdict_trial(ranked, base, objectives)
    if best is None:
        return f"Not worth it so far: no trial has less {cost.title.lower()} than the base at an accuracy near it."
    kept = _loss(best, base, gain) <= _slack(base, gain)
    claim = "Worth it" if kept else "Worth it only if accuracy can be given up"
    return f"{claim}: {_tradeoff(best, base, gain, cost)}."


def says_nothing(base: Measurement, gain: Objective) -> bool:
    """Return whether the base has no accuracy at all, so that comparisons are meaningless."""
    return gain.direction == "max" and base.figures[gain.name].value <= 0


def verdict_trial(ranked: Ranked, base: Measurement, objectives: Sequence[Objective]) -> Trial | None:
    """Return the cheapest trial with the base's accuracy, else the most accurate; None unless it clearly costs less."""
    gain, cost = first_accuracy(objectives), first_cost(objectives)
    if gain is None or cost is None or not ranked.trials:
        return None
    kept = [trial for trial in ranked.trials if _loss(trial, base, gain) <= _slack(base, gain)]
    cheapest = min(kept, key=lambda trial: trial.figures[cost.name].value, default=None)
    nearest = min(ranked.trials, key=lambda trial: _loss(trial, base, gain))
    for trial in (cheapest, nearest):
        if trial is not None and trial.figures[cost.name].high < base.figures[cost.name].low:
            return trial
    return None


def _loss(trial: Trial, base: Measurement, gain: Objective) -> float:
    """Return the loss against the base, in the unit of the figure."""
    change = trial.figures[gain.name].value - base.figures[gain.name].value
    return -change if gain.direction == "max" else change


def _slack(base: Measurement, gain: Objective) -> float:
    """Return the largest loss that counts as none."""
    figure = base.figures[gain.name]
    return _NEGLIGIBLE_LOSS if gain.is_fraction else max(_NEGLIGIBLE_SHARE * abs(figure.value), figure.standard_error)


def _tradeoff(trial: Trial, base: Measurement, gain: Objective, cost: Objective) -> str:
    figures = trial.figures
    before, after = base.figures[cost.name].value, figures[cost.name].value
    now, then = figures[gain.name].value, base.figures[gain.name].value
    price = f"{100 * (now - then):+.1f} points of {gain.title}"
    if not gain.is_fraction:
        price = f"a {gain.title} of {gain.text(now)} instead of {gain.text(then)}"
    return (
        f"trial {trial.id} has {100 * (1 - after / before):.0f} % less {cost.title.lower()} than the base "
        f"({cost.text(after)} instead of {cost.text(before)}) at {price}"
    )
