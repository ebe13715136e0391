"""A study by the times of other devices, as snapshot.json carries it: the page can then show any of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from objectives.latency.quality_flags import FLAGS
from search.errors import RunCorrupt
from search.results import ranking
from search.results.target_device import target_names
from search.results.verdict import verdict
from search.trial import Trial

if TYPE_CHECKING:
    from search.study import Study


def target_views(study: Study, trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """What differs by each device's times, by its name: latencies, who counts, front, picks, hypervolume, verdict.

    Figures that cannot be read are left out: a search must not end because of them, and `--target` says what is wrong.

    Args:
        trials: of the study, with its own latencies.

    Returns:
        {device: {"machine", "base_ms", "latency_ms": {trial: [value, low, high]}, "flags": {trial: [text]},
        "feasible": [trial], "front": [trial], "picks", "hypervolume", "verdict"}}.
    """
    found = {}
    for name in target_names(study.record):
        try:
            found[name] = _view(study.on(name), trials)
        except RunCorrupt:
            continue
    return found


def _view(there: Study, trials: Sequence[Trial]) -> dict[str, Any]:
    assert there.target is not None
    target, base, objectives, bounds = there.target, there.base(), there.objectives, there.spec.bounds
    timed = target.trials(trials)
    ranked = ranking.rank(timed, bounds, objectives)
    budgets = {name: there.spec.budget(name) for name in there.spec.budgets}
    feasible = [trial.number for trial in timed if ranking.is_feasible(trial, bounds)]
    return {
        "machine": dict(target.machine),
        "base_ms": target.base_ms,
        "latency_ms": {str(trial.number): list(trial.figures["latency_ms"].to_dict().values()) for trial in timed},
        "flags": {str(number): list(map(_explained, said)) for number, said in target.flags.items() if said},
        "feasible": feasible,
        "front": list(ranked.front),
        "picks": ranking.picks(ranked, budgets, objectives) if ranked.trials else {},
        "hypervolume": [] if base is None else ranking.VolumeTrack().upto(ranked, objectives, base),
        "verdict": "" if base is None else verdict(ranked, base, objectives, len(timed)),
    }


def _explained(flag: str) -> str:
    return f"latency: {FLAGS.get(flag, flag)}"
