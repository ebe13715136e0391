"""Reliability of a study's screening score, and the accuracy that it predicts for screened trials."""

from __future__ import annotations

from collections.abc import Sequence

from objectives.objective import Objective, first_accuracy
from search.results.schema import ScoreRow
from search.trial import Measurement, Trial, TrialState

FEWEST = 3
"""Trials with a score and an accuracy below which nothing is expected of the others."""


def rungs(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[ScoreRow]:
    """Return Kendall's tau between each cheap score and the accuracy after the fine-tune, over the trials with both."""
    from search.propose.screening import correlation

    gain = first_accuracy(objectives)
    if gain is None:
        return []
    sign = 1 if gain.direction == "max" else -1
    pairs = [(score, sign * value) for score, value in _pairs(trials, gain.name)]
    tau = correlation(pairs)
    return [] if tau is None else [{"name": "outputs before the fine-tune", "correlation": tau, "trials": len(pairs)}]


def expectations(
    trials: Sequence[Trial], objectives: Sequence[Objective], base: Measurement | None
) -> dict[int, dict[str, float]]:
    """Return screened trial -> {accuracy: expected value}, by the isotonic curve of `propose.screening`.

    Empty while fewer than three trials have both figures.
    """
    objective = first_accuracy(objectives)
    if base is None or objective is None or objective.name not in base.figures:
        return {}
    pairs = _pairs(trials, objective.name)
    scores = {t.number: t.measurement.score for t in trials if t.state == TrialState.SCREENED and t.measurement}
    known = {number: score for number, score in scores.items() if score is not None}
    if len(pairs) < FEWEST or not known:
        return {}
    from search.propose.screening import AccuracyGoal, expected_shares

    gain = AccuracyGoal.of(objective, base)
    shares = expected_shares([(score, gain.share(value)) for score, value in pairs], list(known.values()))
    return {number: {gain.name: gain.value(share)} for number, share in zip(known, shares, strict=True)}


def _pairs(trials: Sequence[Trial], gain: str) -> list[tuple[float, float]]:
    """Return (score, accuracy) of the trials that have both, each network once."""
    known = [t.measurement for t in trials if t.state == TrialState.COMPLETE and t.same_as is None and t.measurement]
    return [(float(m.score), m.figures[gain].value) for m in known if m.score is not None and gain in m.figures]
