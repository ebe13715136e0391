"""Verdict: the search compared with the baselines in one sentence, even if it loses. Pure functions of records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from objectives.objective import Z95, Estimate, Objective, first_accuracy, first_cost
from objectives.paired import paired_difference
from search.config.baseline_names import TRAINED
from search.results.baseline_results import BaselineResult
from search.results.ranking import Figures, Ranked
from search.trial import Measurement, Trial

_NEAR = 0.03
"""Share of a cost within which two models count as equally fast, where the measuring error says nothing."""
_EFFORT = ("lower_size", "base", "sibling", "int8", *TRAINED, "train")
"""Kinds of baselines by what it takes to do that instead: an argument, another file, an export, a fine-tune, a
training."""


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
    def difference(self) -> Estimate | None:
        """`lead` with its 95 % interval, from the resampled images that both share; None where one has none.

        The mean of several trainings has their error besides.
        """
        if self.trial is None or self.row.measured is None:
            return None
        one, other, name = self.trial.measured, self.row.measured, self.gain.name
        between = math.hypot(*(_trained_error(measured, name) for measured in (one, other)))
        return paired_difference(name, one.replicates, other.replicates, self.lead, between)

    @property
    def is_close(self) -> bool:
        """True if the difference is within the measuring error."""
        name, own = self.gain.name, figures_of(self.row)
        if (found := self.difference) is not None:
            return found.low <= 0 <= found.high
        return self.trial is not None and self.trial.figures[name].overlaps(own[name])


def _trained_error(measured: Measurement, name: str) -> float:
    figure = measured.figures[name]
    return (figure.high - figure.low) / 2 / Z95 if measured.seeds > 1 else 0.0


def compared_verdict(
    ranked: Ranked,
    rows: Sequence[BaselineResult],
    base: Measurement,
    objectives: Sequence[Objective],
    measured: int,
    names: Sequence[str] = (),
) -> str:
    """Return whether pruning was worth it: against the base, and against the best baseline at the same cost.

    It is not called worth it where a baseline that costs no more has as much, or cannot be told apart from it; then the
    one that is the least effort comes first.

    Args:
        measured: trials that are complete, feasible or not.
        names: of the bases of a study of several, of which `base` is the first.
    """
    said = verdict(ranked, base, objectives, measured, names)
    pairs = compare_baselines(ranked, rows, base, objectives)
    if not pairs or says_nothing(base, pairs[0].gain):
        return said
    chosen = verdict_trial(ranked, base, objectives)
    within = [] if chosen is None else [pair for pair in pairs if _costs_no_more(pair, chosen)]
    better = [pair for pair in within if chosen is not None and pair.row_gain >= _signed(chosen.figures, pair.gain)]
    if better:
        return _instead(better, names)
    equal = [one for pair in within if (one := replace(pair, trial=chosen)).difference is not None and one.is_close]
    equal = [pair for pair in equal if pair.row.kind not in TRAINED]
    if equal:
        return _undecided(min(equal, key=_effort), names)
    hardest = min(pairs, key=lambda pair: (pair.trial is None, pair.lead))
    if hardest.trial is not None and (hardest.lead >= 0 or hardest.is_close):
        return f"{said} {_held(hardest, hardest.trial, names)}"
    return f"{said} But {_lost(hardest, names, first=False)}"


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


def _costs_no_more(pair: BaselineComparison, chosen: Trial) -> bool:
    """Return whether the baseline costs no more than the verdict's trial."""
    limit = chosen.figures[pair.cost.name]
    return figures_of(pair.row)[pair.cost.name].value <= max(limit.high, limit.value * (1 + _NEAR))


def _effort(pair: BaselineComparison) -> tuple[int, float]:
    """Return a key: the kind that is the least work first, of one kind the most accurate."""
    kind = pair.row.kind
    return _EFFORT.index(kind) if kind in _EFFORT else len(_EFFORT), -pair.row_gain


def _instead(better: Sequence[BaselineComparison], names: Sequence[str]) -> str:
    """Say what to do instead, first what is the least work, then what has the most accuracy."""
    easiest, best = min(better, key=_effort), max(better, key=lambda pair: pair.row_gain)
    said = _lost(easiest, names)
    if best.row_gain <= easiest.row_gain:
        return said
    figures = figures_of(best.row)
    more = f"{best.gain.text(figures[best.gain.name].value)} at {best.cost.text(figures[best.cost.name].value)}"
    return f"{said} {_capital(best.row.name)} has more still: {more}."


def _undecided(pair: BaselineComparison, names: Sequence[str]) -> str:
    """Format `Not shown to be worth it: unpruned yolov8n has as much as trial 17 at 4.8 ms (0.2 (-0.4 to 0.8) points
    of mAP50-95 between them), without pruning.`"""
    assert pair.trial is not None and pair.difference is not None
    at = pair.cost.text(figures_of(pair.row)[pair.cost.name].value)
    between = f"{_change(pair.difference, pair.gain)} between them, which is within the error"
    who = _trial(pair.trial, names)
    return f"Not shown to be worth it: {pair.row.name} does as well at {at}, without pruning: {who} has {between}."


def _held(pair: BaselineComparison, trial: Trial, names: Sequence[str]) -> str:
    """Format `At 3.4 ms pruning keeps 0.619; the base at 480 px has 0.580 at that latency.`, or where both have
    resamples `At 3.4 ms trial 17 beats the base at 480 px by 3.9 (2.1 to 5.7) points of mAP50-95.`"""
    found, row, difference = trial.figures, figures_of(pair.row), pair.difference
    if difference is not None:
        return _told_apart(pair, trial, difference, names)
    kept = f"At {pair.cost.text(found[pair.cost.name].value)} {_who(pair)} keeps "
    kept += pair.gain.text(found[pair.gain.name].value)
    other = f"{pair.row.name} has {pair.gain.text(row[pair.gain.name].value)} at {_where(pair, trial)}"
    doubt = ", which is within the error" if pair.is_close else ""
    return f"{kept}; {other}{doubt}."


def _told_apart(pair: BaselineComparison, trial: Trial, difference: Estimate, names: Sequence[str]) -> str:
    at, where = pair.cost.text(trial.figures[pair.cost.name].value), _where(pair, trial)
    own = "" if where.startswith("that ") else f", which is at {where}"
    change, who = _change(difference, pair.gain), _trial(trial, names)
    if pair.is_close:
        return f"At {at} {who} and {pair.row.name}{own} cannot be told apart: {change}."
    return f"At {at} {who} beats {pair.row.name}{own}{',' if own else ''} by {change}."


def _lost(pair: BaselineComparison, names: Sequence[str], *, first: bool = True) -> str:
    """Format `Not worth it: the base at 480 px has 0.630 at 3.4 ms, the best trial within that (17) 0.619.`, or
    `... beats trial 17, the best within that latency, by 1.1 (0.4 to 1.8) points of mAP50-95 at 3.4 ms.`"""
    row, title, difference = figures_of(pair.row), pair.cost.title.lower(), pair.difference
    head = "Not worth it: " if first else ""
    other = f"{pair.row.name} has {pair.gain.text(row[pair.gain.name].value)}"
    at = f"at {pair.cost.text(row[pair.cost.name].value)}"
    if pair.trial is None:
        return f"{head}{other} {at}, and no trial has so little {title}."
    best = f"{_trial(pair.trial, names)}, the best within that {title},"
    if difference is None:
        return f"{head}{other} {at}; {best} has {pair.gain.text(pair.trial.figures[pair.gain.name].value)}."
    if pair.is_close:
        change = _change(difference, pair.gain)
        return f"{head}{pair.row.name} {at} and {best} cannot be told apart: {change}."
    change = _change(Estimate(-difference.value, -difference.high, -difference.low), pair.gain)
    return f"{head}{pair.row.name} beats {best} by {change} {at}."


def _change(difference: Estimate, gain: Objective) -> str:
    """Format `0.9 (0.3 to 1.5) points of mAP50-95`."""
    value, low, high = difference.value, difference.low, difference.high
    if gain.is_fraction:
        return f"{100 * value:.1f} ({100 * low:.1f} to {100 * high:.1f}) points of {gain.title}"
    return f"a {gain.title} of {value:.3g} ({low:.3g} to {high:.3g}) {gain.unit}".rstrip()


def _trial(trial: Trial, names: Sequence[str]) -> str:
    """Return `trial 17`, of several bases `trial 17 (pruned yolov8s)`."""
    return f"trial {trial.id}" + (f" (pruned {names[trial.candidate.base]})" if names else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text.startswith(("the ", "unpruned ")) else text


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


def verdict(
    ranked: Ranked, base: Measurement, objectives: Sequence[Objective], measured: int, names: Sequence[str] = ()
) -> str:
    """Return whether pruning was worth it, by the first accuracy and the first cost of the study.

    Args:
        measured: trials that are complete, feasible or not.
        names: of the bases of a study of several, of which `base` is the first.
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
    return f"{claim}: {_tradeoff(best, base, gain, cost, names)}."


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


def _tradeoff(trial: Trial, base: Measurement, gain: Objective, cost: Objective, names: Sequence[str]) -> str:
    figures = trial.figures
    before, after = base.figures[cost.name].value, figures[cost.name].value
    now, then = figures[gain.name].value, base.figures[gain.name].value
    than = f"unpruned {names[0]}" if names else "the base"
    price = f"{100 * (now - then):+.1f} points of {gain.title}"
    if not gain.is_fraction:
        price = f"a {gain.title} of {gain.text(now)} instead of {gain.text(then)}"
    return (
        f"{_trial(trial, names)} has {100 * (1 - after / before):.0f} % less {cost.title.lower()} than {than} "
        f"({cost.text(after)} instead of {cost.text(before)}) at {price}"
    )
