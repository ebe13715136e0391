"""`paretoprune check`: report whether the study can run, what it can reach and how long it takes, without searching."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from objectives.choice import Bound
from objectives.held_folder import held_folder
from search.config.comparability import comparable
from search.config.inputs.user_code import UserReference
from search.config.spec import StudySpec, with_defaults
from search.orchestration.stopping import Limits, SearchState, next_time, seconds_left
from search.prepare.requirements import check_packages, check_servers
from search.run_folder.environment import environment
from search.run_folder.record import RunRecord
from search.workers.run_isolated import run_isolated

_ENOUGH_TRIALS = 3


def check(spec: StudySpec) -> dict[str, Any]:
    """Check a study; return the facts as plain data.

    Raises:
        PreparationFailed: the model cannot be traced or timed, with the exit code of the cause.
        BackendMissing, ServerMissing: a package, the storage or the cluster is missing; nothing was done yet.
    """
    check_packages(spec)
    check_servers(spec)
    spec = spec.without_secrets
    recorded = _recorded_trial_s(spec)
    with held_folder("check") as folder:
        facts: dict[str, Any] = run_isolated(check_in_child, (spec, folder, recorded), folder, log_stays=False)
    return {"environment": environment(), **facts}


def check_in_child(spec: StudySpec, folder: Path, recorded_s: float | None) -> dict[str, Any]:
    """Run `check` in a child process that may crash."""
    from pruning import trace
    from search.config.inputs.dataset import check_images
    from search.evaluate import pruning_evaluator
    from search.evaluate.importance_scores import scores_of
    from search.evaluate.timing.threads import limit_threads, share_of_cores
    from search.evaluate.workload import example_input, level_use, load_model
    from search.prepare.budget_forecast import forecast
    from search.prepare.preflight import check_before, check_data
    from search.space import Space, offered_levels

    limit_threads(share_of_cores(spec.search.workers))
    model = load_model(spec.model)
    check_before(spec, model)
    is_own = UserReference.parse(spec.data) is not None
    left_out = () if is_own else check_images(check_data(model, Path(spec.data)))
    sizes = dict.fromkeys((spec.imgsz, min(spec.sizes)))
    graphs = {size: trace(model, example_input(model, size)) for size in sizes}
    graph = graphs[spec.imgsz]
    device = pruning_evaluator.resolve_device(spec.device)
    used = level_use(model, spec.data, imgsz=spec.imgsz, device=device, work_dir=folder) if graph.levels else None
    names = () if graph.pyramid is None else graph.pyramid.names
    levels = offered_levels(spec.space.levels, graph.levels, () if used is None else used.idle(), names)
    space = Space.from_graph(graph, spec.searched_space, spec.sizes, levels=levels)
    scores = scores_of(model, graph, spec.space.importance, data=spec.data, imgsz=spec.imgsz)
    least = space.smallest()
    smallest = graphs[least.imgsz].plan(
        space.group_ratios(least), scores, round_to=spec.space.round_to, removed=least.removed
    )
    reach, timing_s = _reach(spec, folder, model, graph, smallest, least.imgsz)
    base_ms = reach["latency_ms"][0]

    def expected(limit_ms: float) -> dict[str, Any] | None:
        found = forecast(_run(spec), graph, space, spec.space.round_to, base_ms, limit_ms)
        return None if found is None else found.to_json()

    middle = graph.plan(space.group_ratios(space.uniform(sum(spec.space.ratio) / 2)), scores, spec.space.round_to)
    return {
        "left_out": list(left_out),
        "groups": [dict(row) for row in pruning_evaluator.group_rows(graph)],
        "dimensions": {d.name: list(d.groups) for d in space.dimensions},
        "depth": spec.space.depth,
        "blocks": [block.path for block in space.blocks if block.path not in names],
        "levels": _levels(used, [level.path for level in graph.levels], [level.path for level in levels]),
        "unsupported": list(graph.unsupported),
        "reach": {name: {"base": base, "least": least} for name, (base, least) in reach.items()},
        "budgets": _budgets(spec, reach, expected),
        "time": _time(spec, recorded_s or _measured_trial_s(spec, middle.apply(model), timing_s, folder), recorded_s),
    }


def _levels(used: Any, removable: Sequence[str], offered: Sequence[str]) -> dict[str, Any] | None:
    """Return how detection levels are used, which idle ones could go, and which the search may remove."""
    if used is None:
        return None
    idle = [name for name in used.idle() if name in removable]
    return {**used.to_json(), "idle": idle, "offered": list(offered)}


def _reach(
    spec: StudySpec, folder: Path, model: Any, graph: Any, smallest: Any, imgsz: int
) -> tuple[dict[str, tuple[float, float]], float]:
    """Return (figure -> (base, smallest candidate), seconds to export and time one candidate)."""
    from objectives.runtimes.open import export_for_timing
    from search.evaluate.timing import latency
    from search.evaluate.timing.measurement_lock import MeasurementLock

    small, batch = smallest.apply(model), spec.latency.batch
    base_onnx = export_for_timing(model, folder / "base.onnx", imgsz=spec.imgsz, batch=batch)
    began = time.perf_counter()
    least_onnx = export_for_timing(small, folder / "smallest.onnx", imgsz=imgsz, batch=batch)
    reference = latency.open_timed(spec.latency, base_onnx, model, spec.imgsz)
    candidate = latency.open_timed(spec.latency, least_onnx, small, imgsz)
    with MeasurementLock(latency.lock_path()) as turns:
        (found,) = latency.measure([candidate], reference, spec.latency, turns)
    timing_s = time.perf_counter() - began
    before, after = graph.cost(), smallest.cost()
    return {
        "latency_ms": (found.reference_ms, found.in_ms().value),
        "params_m": (before.params / 1e6, after.params / 1e6),
        "macs_g": (before.macs / 1e9, after.macs / 1e9),
        "size_mb": (base_onnx.stat().st_size / 1e6, least_onnx.stat().st_size / 1e6),
    }, timing_s


def _run(spec: StudySpec) -> Path:
    return Path(spec.project) / spec.run_name


def _budgets(
    spec: StudySpec, reach: Mapping[str, tuple[float, float]], expected: Callable[[float], dict[str, Any] | None]
) -> dict[str, dict[str, Any]]:
    """Return for every budget and the constraints: whether the costs can be met, whether the base already meets them,
    and what meeting a latency limit takes.

    Accuracy is not known before the search.
    """
    base = {name: figures[0] for name, figures in reach.items()}
    asked = {name: spec.budget(name, base) for name in spec.budgets}
    if spec.bounds:
        asked["constraints"] = spec.bounds

    def met(bounds: Sequence[Bound], which: int) -> bool:
        return all(reach[b.name][which] <= b.limit for b in bounds if b.op == "<=" and b.name in reach)

    return {
        name: {
            "limits": [str(bound) for bound in bounds],
            "reachable": met(bounds, 1),
            "by_base": met(bounds, 0),
            "forecast": next((expected(b.limit) for b in bounds if b.op == "<=" and b.name == "latency_ms"), None),
        }
        for name, bounds in asked.items()
    }


def _measured_trial_s(spec: StudySpec, model: Any, timing_s: float, folder: Path) -> float | None:
    from search.evaluate import pruning_evaluator
    from search.evaluate.timing.threads import limit_threads, share_of_cores
    from search.prepare.trial_time import profile_trial, trial_seconds

    if UserReference.parse(spec.data) is not None:
        return None  # how long a user's fine-tune takes is known after the first trial
    limit_threads(share_of_cores(spec.search.workers))
    pace = profile_trial(spec, model, pruning_evaluator.resolve_device(spec.device), spec.imgsz, folder)
    return trial_seconds(spec, model, pace, timing_s)


def _time(spec: StudySpec, trial_s: float | None, recorded_s: float | None) -> dict[str, Any] | None:
    """Estimate the seconds of a trial and of the search; None if unknown."""
    if trial_s is None:
        return None
    total = trial_s * spec.search.trials / spec.search.workers
    limit = _allowed_s(spec)
    return {
        "trial_s": trial_s,
        "total_s": total if limit is None else min(total, limit),
        "trials": spec.search.trials
        if limit is None
        else min(spec.search.trials, int(limit / total * spec.search.trials)),
        "from": "the trials of this run" if recorded_s is not None else "some batches of the real training",
    }


def _allowed_s(spec: StudySpec) -> float | None:
    """Return the seconds that a search started now may take; None if only its trials limit it."""
    now, until = datetime.now(), spec.search.until
    limits = Limits(spec.search.trials, spec.search.hours, until=None if until is None else next_time(until, now))
    return seconds_left(limits, SearchState(0, 0.0, now, now))


def _recorded_trial_s(spec: StudySpec) -> float | None:
    """Return the mean seconds of this run's measured trials, if any."""
    record = RunRecord(Path(spec.project) / spec.run_name)
    if not record.args_path.is_file():
        return None
    before = with_defaults(record.read_args()[0])
    if comparable(before, {}) != comparable(spec.resolved(), {}):
        return None
    known = [trial.seconds_total for trial in record.trials() if trial.seconds_total > 0]
    return statistics.fmean(known) if len(known) >= _ENOUGH_TRIALS else None
