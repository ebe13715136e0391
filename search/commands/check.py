"""`paretoprune check`: report whether the study can run, what it can reach and how long it takes, without searching."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from objectives.choice import Bound
from objectives.held_folder import held_folder
from objectives.image_size import Size, area
from search.callbacks.trackers import check_trackers
from search.commands.target_fit import target_facts
from search.config.comparability import comparable
from search.config.inputs.user_code import UserReference
from search.config.spec import StudySpec, with_defaults
from search.orchestration.stopping import Limits, SearchState, next_time, seconds_left
from search.prepare.requirements import check_packages, check_servers
from search.run_folder.artefact_files import size_bytes
from search.run_folder.environment import environment
from search.run_folder.record import RunRecord
from search.workers.run_isolated import run_isolated
from ultralytics_versions.tested import installed, lacking

_ENOUGH_TRIALS = 3


def check(spec: StudySpec) -> dict[str, Any]:
    """Check a study; return the facts as plain data.

    Raises:
        PreparationFailed: the model cannot be traced or timed, with the exit code of the cause.
        BackendMissing, ServerMissing: a package, the storage or the cluster is missing; nothing was done yet.
    """
    check_packages(spec)
    check_trackers(spec)
    check_servers(spec)
    spec = spec.without_secrets
    recorded = _recorded_trial_s(spec)
    with held_folder("check") as folder:
        facts: dict[str, Any] = run_isolated(check_in_child, (spec, folder, recorded), folder, log_stays=False)
    return {"environment": environment(), "lacking": list(lacking(installed())), **facts}


def check_in_child(spec: StudySpec, folder: Path, recorded_s: float | None) -> dict[str, Any]:
    """Run `check` in a child process that may crash."""
    from search.config.inputs.dataset import check_images
    from search.evaluate import pruning_evaluator
    from search.evaluate.timing.threads import limit_threads, share_of_cores
    from search.evaluate.workload import load_model
    from search.prepare.preflight import check_before, check_data, check_same_outputs

    limit_threads(share_of_cores(spec.search.workers))
    model = load_model(spec.model)
    check_before(spec, model)
    others = {number: load_model(spec.models[number]) for number in range(1, len(spec.models))}
    for number, other in others.items():
        check_same_outputs(spec, model, other, number)
        check_before(spec.of_base(number), other)
    is_own = UserReference.parse(spec.data) is not None
    left_out = () if is_own else check_images(check_data(model, Path(spec.data)))
    first = _reach(spec, folder / "0", model, None)
    others_too = (_reach(spec.of_base(number), folder / str(number), other, first) for number, other in others.items())
    reaches = [first, *others_too]
    graph, space = first.graph, first.space
    names = () if graph.pyramid is None else graph.pyramid.names
    middle = graph.plan(space.group_ratios(space.uniform(sum(spec.space.ratio) / 2)), first.scores, spec.space.round_to)
    trial_s = recorded_s or _measured_trial_s(spec, middle.apply(model), first.timing_s, folder)
    return {
        "left_out": list(left_out),
        "groups": [dict(row) for row in pruning_evaluator.group_rows(graph)],
        "dimensions": {d.name: list(d.groups) for d in space.dimensions},
        "depth": spec.space.depth,
        "blocks": [block.path for block in space.blocks if block.path not in names],
        "levels": _levels(first),
        "unsupported": list(graph.unsupported),
        "reach": first.to_json(),
        "budgets": _budgets(spec, reaches, 0),
        **({} if spec.target is None else {"target": target_facts(spec, reaches)}),
        **({"bases": [_base(spec, reaches, number) for number in range(len(reaches))]} if others else {}),
        "time": _time(spec, trial_s, recorded_s),
    }


@dataclass(frozen=True)
class _Reach:
    """A base and its smallest candidate, both measured.

    Attributes:
        figures: figure -> (base, smallest candidate).
        timing_s: seconds to export and time one candidate.
        used: how its detection levels are used; None where none could go. `levels`: those that may be removed.
    """

    model: Any
    file: Path
    graph: Any
    space: Any
    scores: Any
    figures: Mapping[str, tuple[float, float]]
    timing_s: float
    used: Any
    levels: Sequence[Any]

    def to_json(self) -> dict[str, dict[str, float]]:
        """Return {figure: {"base", "least"}}."""
        return {name: {"base": base, "least": least} for name, (base, least) in self.figures.items()}


def _reach(spec: StudySpec, folder: Path, model: Any, first: _Reach | None) -> _Reach:
    """Trace a base and time its smallest candidate beside it; a further base beside the `first`, whose scale counts."""
    from pruning import trace
    from search.evaluate.importance_scores import scores_of
    from search.evaluate.pruning_evaluator import resolve_device
    from search.evaluate.reduced_precision import file_to_time
    from search.evaluate.timing import latency
    from search.evaluate.timing.measurement_lock import MeasurementLock
    from search.evaluate.workload import example_input, level_use, weight_figures
    from search.space import Space, offered_levels

    folder.mkdir()
    graphs = {
        size: trace(model, example_input(model, size))
        for size in dict.fromkeys((spec.imgsz, min(spec.sizes, key=area)))
    }
    graph = graphs[spec.imgsz]
    device = resolve_device(spec.device)
    used = level_use(model, spec.data, imgsz=spec.imgsz, device=device, work_dir=folder) if graph.levels else None
    names = () if graph.pyramid is None else graph.pyramid.names
    levels = offered_levels(spec.space.levels, graph.levels, () if used is None else used.idle(), names)
    space = Space.from_graph(graph, spec.searched_space, spec.sizes, levels=levels)
    scores = scores_of(model, graph, spec.space.importance, data=spec.data, imgsz=spec.imgsz)
    least = space.smallest()
    ratios, round_to = space.group_ratios(least), spec.space.round_to
    smallest = graphs[least.imgsz].plan(ratios, scores, round_to=round_to, removed=least.removed)
    small = smallest.apply(model)
    file = file_to_time(model, spec, spec.precision, spec.imgsz, folder / "base")
    began = time.perf_counter()
    least_file = file_to_time(small, spec, spec.precision, least.imgsz, folder / "smallest")
    own = latency.open_timed(spec.latency, file, model, spec.imgsz)
    sides = [latency.open_timed(spec.latency, least_file, small, least.imgsz)]
    reference = own if first is None else latency.open_timed(spec.latency, first.file, first.model, spec.imgsz)
    with MeasurementLock(latency.lock_path()) as turns:
        found = latency.measure(sides if first is None else [*sides, own], reference, spec.latency, turns)
        with latency.alone(spec.latency, turns):
            opened = ((own, file, model, spec.imgsz), (sides[0], least_file, model, least.imgsz))
            beside = None if first is None else (reference, first)
            further = _further(spec, opened, beside, folder)
    timing_s = time.perf_counter() - began
    reference_ms = found[0].reference_ms if first is None else first.figures["latency_ms"][0]
    before, after = graph.cost(), smallest.cost()
    figures = {
        "latency_ms": (
            reference_ms if first is None else found[1].in_ms(reference_ms).value,
            found[0].in_ms(reference_ms).value,
        ),
        "params_m": (before.params / 1e6, after.params / 1e6),
        "macs_g": (before.macs / 1e9, after.macs / 1e9),
        "size_mb": (size_bytes(file) / 1e6, size_bytes(least_file) / 1e6),
        **further,
    }
    weights = [weight_figures(spec, network) for network in (model, small)]
    figures |= {name: (weights[0][name].value, weights[1][name].value) for name in weights[0]}
    return _Reach(model, file, graph, space, scores, figures, timing_s, used, levels)


def _further(
    spec: StudySpec, opened: Sequence[tuple[Any, Path, Any, Size]], beside: tuple[Any, _Reach] | None, folder: Path
) -> dict[str, tuple[float, float]]:
    """Return the further costs that the study names, or a program prints, of a base and its smallest candidate.

    Args:
        opened: both: runners, file, the unpruned network, input size.
        beside: runners of the study's first base, and what it reaches; None if this is the first.
    """
    from search.evaluate.deployment.measured import Opened, further_costs
    from search.evaluate.deployment.pictures import deployment_pictures

    def side(runners: Any, file: Path, model: Any, imgsz: Size) -> Opened:
        return Opened(runners, file, lambda: model, imgsz)

    own, least = (side(*one) for one in opened)
    base = own if beside is None else side(beside[0], beside[1].file, beside[1].model, spec.imgsz)
    pictures = deployment_pictures(spec, own.origin(), folder, spec.deployed)
    ours, theirs = (further_costs(spec, one, base, spec.deployed, pictures, seed=0) for one in (own, least))
    found = {}
    for name in ours.keys() & theirs.keys():
        whole = ours[name].of_base.value if beside is None else beside[1].figures[name][0]
        found[name] = (ours[name].estimate(whole).value if beside else whole, theirs[name].estimate(whole).value)
    return {name: found[name] for name in sorted(found)}


def _levels(reach: _Reach) -> dict[str, Any] | None:
    """Return how detection levels are used, which idle ones could go, and which the search may remove."""
    if reach.used is None:
        return None
    idle = [name for name in reach.used.idle() if name in {level.path for level in reach.graph.levels}]
    return {**reach.used.to_json(), "idle": idle, "offered": [level.path for level in reach.levels]}


def _base(spec: StudySpec, reaches: Sequence[_Reach], number: int) -> dict[str, Any]:
    """Return what one base of several can reach: as the study's facts, of that base."""
    reach = reaches[number].to_json()
    return {"name": spec.base_names[number], "reach": reach, "budgets": _budgets(spec, reaches, number)}


def _budgets(spec: StudySpec, reaches: Sequence[_Reach], number: int) -> dict[str, dict[str, Any]]:
    """Return for every budget and the constraints: whether the costs can be met, whether the base already meets them,
    and what meeting a latency limit takes: the share of parameters and MACs to cut.

    Shares of a figure are shares of the first base's. Accuracy is not known before the search.

    Args:
        number: place of the base in the study.
    """
    reach, figures = reaches[number], reaches[number].figures
    asked = {name: spec.budget(name, {n: found[0] for n, found in reaches[0].figures.items()}) for name in spec.budgets}
    if spec.bounds:
        asked["constraints"] = spec.bounds

    def met(bounds: Sequence[Bound], which: int) -> bool:
        return all(figures[b.name][which] <= b.limit for b in bounds if b.op == "<=" and b.name in figures)

    def limit_ms(bounds: Sequence[Bound]) -> float | None:
        """Return the limit of the network alone: an end-to-end one less what the base takes before and after it."""
        whole = figures.get("e2e_ms", figures["latency_ms"])[0]
        around = {"latency_ms": 0.0, "e2e_ms": max(0.0, whole - figures["latency_ms"][0])}
        return min((b.limit - around[b.name] for b in bounds if b.op == "<=" and b.name in around), default=None)

    return {
        name: {
            "limits": [str(bound) for bound in bounds],
            "reachable": met(bounds, 1),
            "by_base": met(bounds, 0),
            "forecast": _forecast(spec, reach, number, limit_ms(bounds)),
            "cut": _rough_cut(figures, limit_ms(bounds)),
        }
        for name, bounds in asked.items()
    }


def _forecast(spec: StudySpec, reach: _Reach, number: int, limit_ms: float | None) -> dict[str, Any] | None:
    """Return the predicted model for a latency limit, by the latency model of the run; None before there is one."""
    from search.prepare.budget_forecast import forecast

    if limit_ms is None:
        return None
    run = RunRecord(Path(spec.project) / spec.run_name).of_base(number).path
    base_ms = reach.figures["latency_ms"][0]
    found = forecast(run, reach.graph, reach.space, spec.space.round_to, base_ms, limit_ms)
    if found is None:
        return None
    (params, _), (macs, _) = reach.figures["params_m"], reach.figures["macs_g"]
    return {**found.to_json(), "cut": {"params": 1 - found.params_m / params, "macs": 1 - found.macs_g / macs}}


def _rough_cut(figures: Mapping[str, tuple[float, float]], limit_ms: float | None) -> float | None:
    """Return the share of MACs to cut for a latency limit, on the line between the base and its smallest candidate.

    None where there is no limit, or it lies outside of the two.
    """
    (slow, fast), (most, least) = figures["latency_ms"], figures["macs_g"]
    if limit_ms is None or not fast <= limit_ms < slow:
        return None
    return (slow - limit_ms) / (slow - fast) * (1 - least / most)


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
