"""A study by the times of other devices, as snapshot.json carries it: the page can then show any of them."""

from __future__ import annotations

from objectives.latency.quality_flags import FLAGS
from search.errors import RunCorrupt
from search.results import ranking
from search.results.results import Results
from search.results.schema import TargetView
from search.results.target_device import target_names
from search.results.verdict import verdict


def target_views(results: Results) -> dict[str, TargetView]:
    """What differs by each device's times, by its name: latencies, who counts, front, picks, hypervolume, verdict.

    Figures that cannot be read are left out: a search must not end because of them, and `--target` says what is wrong.
    """
    found = {}
    for name in target_names(results.record):
        try:
            found[name] = _view(results.on(name))
        except RunCorrupt:
            continue
    return found


def _view(there: Results) -> TargetView:
    assert there.target is not None
    target, base, trials, ranked = there.target, there.base, there.trials, there.ranked
    return {
        "machine": dict(target.machine),
        "base_ms": target.base_ms,
        "latency_ms": {str(t.id): list(t.figures["latency_ms"].to_dict().values()) for t in trials},
        "flags": {str(number): list(map(_explained, said)) for number, said in target.flags.items() if said},
        "feasible": [str(trial.id) for trial in trials if ranking.is_feasible(trial, there.spec.bounds)],
        "front": list(map(str, ranked.front)),
        "picks": there.picks,
        "hypervolume": there.hypervolume,
        "verdict": "" if base is None else verdict(ranked, base, there.objectives, len(trials)),
    }


def _explained(flag: str) -> str:
    return f"latency: {FLAGS.get(flag, flag)}"
