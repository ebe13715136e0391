"""Views of a study by the latencies of other devices, as stored in snapshot.json."""

from __future__ import annotations

from objectives.latency.quality_flags import FLAGS
from search.errors import RunCorrupt
from search.results import ranking
from search.results.results import Results
from search.results.schema import TargetView
from search.results.target_device import target_names
from search.results.verdict import verdict


def target_views(results: Results) -> dict[str, TargetView]:
    """Return the differences by each device's latencies: latencies, feasible trials, front, picks, verdict, ...

    Unreadable figures are left out, so as not to stop a search; `--target` reports the error.
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
    names = there.spec.base_names if len(there.spec.models) > 1 else ()
    return {
        "machine": dict(target.machine),
        "base_ms": target.base_ms,
        "latency_ms": {str(t.id): list(t.figures["latency_ms"].to_dict().values()) for t in trials},
        "flags": {str(number): list(map(_explained, said)) for number, said in target.flags.items() if said},
        "feasible": [str(trial.id) for trial in trials if ranking.is_feasible(trial, there.spec.bounds)],
        "front": list(map(str, ranked.front)),
        "picks": there.picks,
        "hypervolume": there.hypervolume,
        "verdict": "" if base is None else verdict(ranked, base, there.objectives, len(trials), names),
    }


def _explained(flag: str) -> str:
    return f"latency: {FLAGS.get(flag, flag)}"
