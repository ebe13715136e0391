"""Measurements of trials after their own one, in files beside result.json, which is never rewritten.

    latency/final.json            the front and its neighbours, timed together: {"trials": {number: ...}}
    confirm/0017-1/result.json    trial 17 once more, with another seed

Rankings and displays use these (`refined`); the search itself was told the trial's own figures.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from objectives.latency.quality_flags import DISTURBED
from objectives.objective import OBJECTIVES, Estimate
from search.run_folder.atomic import write_json
from search.run_folder.record import RunRecord, check_known, foreign, read_outcome, sealed
from search.run_folder.weights import origin
from search.trial import FinalLatency, Measurement, Origin, Outcome, Trial, TrialState

FORMAT = 1
_LATENCY = "latency_ms"
_FOLDER = re.compile(r"(\d+)-(\d+)")


def refined(record: RunRecord, trials: Iterable[Trial]) -> tuple[Trial, ...]:
    """Return trials with the latency of the last measurement and the mean accuracy of all seeds, if any."""
    found = tuple(trials)
    times, repeats = read_final(record), read_repeats(record, found)
    if not times and not repeats:
        return found
    return tuple(_refined(trial, times.get(origin(trial)), repeats.get(origin(trial), ())) for trial in found)


def _refined(trial: Trial, final: FinalLatency | None, repeats: Sequence[Measurement]) -> Trial:
    if trial.measurement is None or trial.state != TrialState.COMPLETE:
        return trial
    measured = trial.measurement
    if final is not None and _LATENCY in measured.figures:
        figures = {**measured.figures, _LATENCY: final.latency_ms, **final.further}
        further = {**measured.timing.get("further", {}), **final.timing.get("further", {})}
        timing = {**final.timing, **({"further": further} if further else {})}
        measured = replace(measured, figures=figures, timing=timing)
    return replace(trial, measurement=confirmed(measured, repeats))


def confirmed(measured: Measurement, repeats: Sequence[Measurement]) -> Measurement:
    """Average the trained figures over all seeds, with the 95 % interval of the mean (Student's t).

    The interval covers the variation between trainings, not that between validation images. If all seeds agree to the
    last digit (nothing was trained), the figure keeps its own interval.
    """
    if not repeats:
        return measured
    runs = [measured, *repeats]
    means = {name: _mean([one.figures[name] for one in runs], name) for name in _trained(runs)}
    classes = {
        name: sum(one.per_class[name] for one in runs) / len(runs)
        for name in measured.per_class
        if all(name in one.per_class for one in runs)
    }
    return replace(
        measured,
        figures={**measured.figures, **means},
        per_class={**measured.per_class, **classes},
        replicates=_mean_replicates(runs),
        seeds=len(runs),
    )


def _mean_replicates(runs: Sequence[Measurement]) -> dict[str, Sequence[float]]:
    """Average each resample over all seeds; none of a figure that some seed has no resamples of."""
    found: dict[str, Sequence[float]] = {}
    for name in runs[0].replicates:
        rows = [one.replicates.get(name, ()) for one in runs]
        if len({len(row) for row in rows}) == 1:
            found[name] = tuple(math.fsum(drawn) / len(rows) for drawn in zip(*rows, strict=True))
    return found


def _trained(runs: Sequence[Measurement]) -> list[str]:
    """Return the figures that are no cost and that every run has."""
    names = [name for name in runs[0].figures if name not in OBJECTIVES or not OBJECTIVES[name].is_cost]
    return [name for name in names if all(name in one.figures for one in runs)]


def _mean(figures: Sequence[Estimate], name: str) -> Estimate:
    from scipy.special import stdtrit

    values, count = [figure.value for figure in figures], len(figures)
    mean = math.fsum(values) / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    if spread == 0:
        return figures[0]
    margin = float(stdtrit(count - 1, 0.975)) * spread / math.sqrt(count)
    low, high = mean - margin, mean + margin
    if name in OBJECTIVES and OBJECTIVES[name].is_fraction:
        low, high = max(0.0, low), min(1.0, high)
    return Estimate(mean, min(low, mean), max(high, mean))


def final_path(record: RunRecord) -> Path:
    """Return the path of a run's latency/final.json."""
    return record.path / "latency" / "final.json"


def read_final(record: RunRecord) -> dict[int, FinalLatency]:
    """Trial -> its last latency; nothing where there is no file of this run that can be read."""
    try:
        content = json.loads(final_path(record).read_text(encoding="utf-8"))
        check_known(content, FORMAT, final_path(record))
        if foreign(content, record.origin()) is not None:
            return {}
        return {int(number): FinalLatency.from_json(row) for number, row in content["trials"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_final(record: RunRecord, trials: Sequence[Trial], timed: Mapping[int, FinalLatency]) -> int:
    """Add what was timed together, and return how many figures it changed.

    A figure measured on a disturbed machine replaces another only if its interval is narrower. Earlier entries of other
    trials are kept: a trial that left the front by a better measurement must not return by the worse one.
    """
    own = {trial.number: trial.measurement for trial in trials}
    new = {number: final for number, final in timed.items() if _is_better(own.get(number), final)}
    rows = sorted((read_final(record) | new).items())
    content = {"format": FORMAT, "trials": {str(number): final.to_json() for number, final in rows}}
    write_json(final_path(record), sealed(content, record.origin()))
    return len(new)


def _is_better(measured: Measurement | None, final: FinalLatency) -> bool:
    if measured is None or _LATENCY not in measured.figures:
        return False
    new, old = final.latency_ms, measured.figures[_LATENCY]
    return not DISTURBED & set(final.timing.get("flags", ())) or new.high - new.low < old.high - old.low


def repeat_dir(record: RunRecord, number: int, seed: int) -> Path:
    """Return the folder of a repeat of trial `number`; `seed` counts from 1."""
    return record.path / "confirm" / f"{number:04d}-{seed}"


def read_repeat(folder: Path, origin: Origin) -> Outcome | None:
    """Return how a repeat ended; None if it has no result that can be read and is of this origin."""
    try:
        return read_outcome(folder, origin)[0]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_repeats(record: RunRecord, trials: Iterable[Trial]) -> dict[int, tuple[Measurement, ...]]:
    """Return trial -> its measured repeats, by seed."""
    paths = sorted((record.path / "confirm").glob("*/result.json"))
    if not paths:
        return {}
    origin, candidates = record.origin(), {trial.number: trial.candidate for trial in trials}
    found: dict[int, list[Measurement]] = {}
    for path in paths:
        match = _FOLDER.fullmatch(path.parent.name)
        candidate = None if match is None else candidates.get(int(match[1]))
        if match is None or candidate is None:
            continue
        outcome = read_repeat(path.parent, origin.of(candidate.from_base()))
        if isinstance(outcome, Measurement):
            found.setdefault(int(match[1]), []).append(outcome)
    return {number: tuple(repeats) for number, repeats in found.items()}
