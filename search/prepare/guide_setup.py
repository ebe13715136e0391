"""Set up the `auto` sampler: prices, a latency model, and the base at every input size and precision."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.image_size import Size, written
from objectives.latency.model import LatencyModel
from objectives.latency.protocol import Latency
from objectives.objective import first_accuracy, objectives_named
from pruning import ChannelGraph, Plan, Scores
from pruning.sensitivity import Curve
from search.config.spec import StudySpec
from search.evaluate.output_divergence import output_probe
from search.evaluate.reduced_precision import accuracy_as_shipped, file_to_time, timed_name
from search.evaluate.timing.latency import lock_path, measure, open_timed
from search.evaluate.timing.measurement_lock import MeasurementLock
from search.evaluate.timing.progress import Phases
from search.evaluate.workload import accuracy_of
from search.prepare import latency_probes
from search.prepare.sensitivity_curves import sensitivity_curves
from search.propose.allocation import PLANNED
from search.propose.costs import Limits, layer_rates
from search.propose.guided import RUNGS, Guide, Variant
from search.propose.screening import AccuracyGoal
from search.propose.width_options import allocator_of
from search.run_folder.artefact_files import discard
from search.run_folder.atomic import write_json
from search.run_folder.quarantine import derived_json
from search.run_folder.record import LAYERS
from search.space import Space
from search.trial import Candidate, Measurement

VARIANTS = "variants.json"


@dataclass(frozen=True)
class Subject:
    """The model under study, traced and scored."""

    spec: StudySpec
    model: Any
    graph: ChannelGraph
    space: Space
    scores: Scores
    onnx: Path
    run: Path
    graphs: Mapping[Size, ChannelGraph]
    device: str


def guide_of(subject: Subject, base: Measurement, phase: Phases) -> Guide | None:
    """Return the guide of a study; None if no accuracy is an objective, or if the base has none."""
    spec = subject.spec
    objective = first_accuracy(objectives_named(spec.objectives))
    if objective is None or base.figures[objective.name].value <= 0:
        return None
    gain = AccuracyGoal.of(objective, base)
    with phase("sensitivity"):
        probe = output_probe(spec, subject.model, subject.graph, subject.scores)
        curves = sensitivity_curves(probe, subject.space, subject.run / "sensitivity", phase.advance)
    targets = targets_of(spec, base)
    latency, correction, relearning, base_ms = None, None, None, base.figures["latency_ms"].value
    if any(name in ("latency_ms", "e2e_ms") for name in (*spec.objectives, *spec.constraints)):
        with phase("probes"):
            shares = sorted({share for share, _, _ in _asked(spec, base) if share is not None})
            latency, timed = latency_model(subject, curves, shares, phase)
            correction, relearning = (
                latency_probes.fit_correction(subject.graph, latency, timed),
                latency_probes.RefittedCosts(subject.graph, timed),
            )
            write_page_model(subject, latency, base_ms)
    allocator = allocator_of(subject.graph, subject.space, curves, spec.space.round_to, latency, correction)
    least = allocator.path({})[-1]
    within = tuple(target for target in targets if target >= allocator.cost(least))
    limits = tuple(
        limit
        if limit is not None and limit.over(allocator.cost_of)(allocator.widths(least)[None], least.removed)[0] <= 1
        else None
        for limit in limits_of(spec, base, subject.graph)
    )
    with phase("variants"):
        variants = variants_of(subject, gain, phase)
    limit_s = None if spec.search.trial_minutes is None else 60 * spec.search.trial_minutes
    seed = spec.search.seed
    return Guide(allocator, gain, variants, within, seed, base_ms, relearning, limits, promotes(spec), limit_s)


def promotes(spec: StudySpec) -> bool:
    """Return whether trials may be trained further: their weights are kept, and more training is to their good.

    Slimming costs accuracy on purpose, the more the longer.
    """
    recover = spec.recover
    return spec.search.promote and spec.keep.weights != "none" and recover.epochs > 0 and not recover.slimming


def variants_of(subject: Subject, gain: AccuracyGoal, phase: Phases) -> tuple[Variant, ...]:
    """Measure the base at every input size of the space, the study's first; written to sensitivity/variants.json.

    A size costs its MACs; accuracy is validated, in the study's own precision as that of the base is. Another precision
    is unknown before its first trial, so it starts as neutral.
    """
    spec, path = subject.spec, subject.run / "sensitivity" / VARIANTS
    known: dict[str, list[float]] = derived_json(path)
    macs = subject.graphs[spec.imgsz].cost().macs
    for number, size in enumerate(spec.sizes):
        if str(written(size)) not in known and size != spec.imgsz:
            place = path.parent / "accuracy"
            found = accuracy_of(Path(spec.model), spec, size, subject.device, place, pause=phase.beat)
            found = accuracy_as_shipped(found, Path(spec.model), spec, size, place, phase.beat)
            share = gain.share(found.figures[gain.name].value)
            known[str(written(size))] = [subject.graphs[size].cost().macs / macs, share]
            write_json(path, known, durable=False)
        phase.advance((number + 1) / len(spec.sizes))
    shutil.rmtree(path.parent / "accuracy", ignore_errors=True)
    figures = {size: known.get(str(written(size)), [1.0, 1.0]) for size in spec.sizes}
    return tuple(Variant(s, p, *figures[s]) for s in spec.sizes for p in spec.space.precision)


def write_page_model(subject: Subject, latency: LatencyModel, base_ms: float) -> None:
    """Write latency/layers.json: the latency model of the report's what-if view, in the base's milliseconds."""
    rates = layer_rates(subject.graph, latency, base_ms)
    content = {
        "imgsz": written(subject.spec.imgsz),
        "constant_ms": float(base_ms * latency.coefficients[0]),
        "error_ms": base_ms * latency.residual,
        "tile": latency.tile,
        "layers": rates,
    }
    write_json(subject.run / "latency" / LAYERS, content, durable=False)


def latency_model(
    subject: Subject, curves: Mapping[str, Curve], targets: Sequence[float], phase: Phases
) -> tuple[LatencyModel, tuple[latency_probes.Probe, ...]]:
    """Time random shapes and fit, then the shapes allocated under the model, and fit again; all is kept in latency/.

    Trials continue this: each adds its latency.
    """
    spec, folder = subject.spec, subject.run / "latency"
    budgets = (*targets, *RUNGS)
    steps = latency_probes.PROBES + len(budgets)

    def ladder(found: tuple[latency_probes.Probe, ...]) -> list[Candidate]:
        model = latency_probes.fitted(subject.graph, found)
        allocator = allocator_of(subject.graph, subject.space, curves, spec.space.round_to, model, None)
        return [allocator.within(budget) for budget in budgets]

    with timing_of(subject) as time_plan:

        def timed(candidates: Sequence[Candidate], done: int) -> tuple[latency_probes.Probe, ...]:
            plans = latency_probes.plans_of(
                subject.graph, subject.space, subject.scores, spec.space.round_to, candidates
            )

            def advance(part: float) -> None:
                phase.advance((done + part * len(plans)) / steps)

            return latency_probes.timed_probes(plans, time_plan, folder, done > 0, advance)

        random = timed(latency_probes.designed(subject.space, latency_probes.PROBES, spec.search.seed), 0)
        rungs = timed(ladder(random), latency_probes.PROBES)
        found = tuple(dict.fromkeys((*random, *rungs)))
    model = latency_probes.fitted(subject.graph, found)
    latency_probes.write_model(folder, model)
    return model, found


def probe_seconds(of_a_trial: float) -> float:
    """Return the limit of one probe: many are fitted together, so each may be noisier than what a trial is ranked by.

    1.5 s predicted trials as well as twice that (docs/search.md); a slow network needs a quarter of a trial's limit.
    """
    return max(min(of_a_trial / 2, 1.5), of_a_trial / 4)


@contextmanager
def timing_of(subject: Subject) -> Iterator[Callable[[Plan, int], Latency]]:
    """Yield a function that times plans against the base while no other trial of this user is timed."""
    spec, folder = subject.spec, subject.run / "latency"
    folder.mkdir(parents=True, exist_ok=True)
    reference = open_timed(spec.latency, subject.onnx, subject.model, spec.imgsz)
    briefly = spec.latency.model_copy(update={"seconds": probe_seconds(spec.latency.seconds)})
    with MeasurementLock(lock_path(), work_dir=subject.run / "base") as turns:

        def time_plan(plan: Plan, seed: int) -> Latency:
            small = plan.apply(subject.model)
            file = file_to_time(small, spec, spec.precision, spec.imgsz, folder / "probe")
            candidate = open_timed(spec.latency, file, small, spec.imgsz)
            return measure([candidate], reference, briefly, turns, seed=seed)[0]

        yield time_plan
    discard(folder / timed_name(spec, spec.precision, "probe"))


def targets_of(spec: StudySpec, base: Measurement) -> tuple[float, ...]:
    """Return the costs that the named budgets and the constraints allow, as shares of the base's, tightest limit first.

    Only of those with a latency limit and no other limit that allocation could meet. A cost is mostly latency, so a
    latency limit counts unchanged.
    """
    found = (
        share for share, params, macs in _asked(spec, base) if share is not None and params is None and macs is None
    )
    return tuple(sorted(set(found)))


def limits_of(spec: StudySpec, base: Measurement, graph: ChannelGraph) -> tuple[Limits | None, ...]:
    """Return the limits of parameters, size or MACs, first those of the constraints, then of each budget with them.

    None where there are none, the base meets them, or they came before: several bases are compared by these places.
    """
    found: list[Limits | None] = []
    seen: set[tuple[float | None, float | None, float | None]] = set()
    for share, params, macs in _asked(spec, base):
        is_known = (share, params, macs) in seen or (params is None and macs is None)
        found.append(None if is_known else Limits(graph, params, macs, share))
        seen.add((share, params, macs))
    return tuple(found)


def _asked(spec: StudySpec, base: Measurement) -> Iterator[tuple[float | None, float | None, float | None]]:
    """Yield (cost, parameters, MACs) of the constraints, alone and with every budget, as shares of the base's.

    None where there is no limit, or the base meets it.
    """
    figures = {name: figure.value for name, figure in base.figures.items()}
    for bounds in ((), *(spec.budget(name, figures) for name in spec.budgets)):
        limit: dict[str, float] = {}
        for bound in (*spec.bounds, *bounds):
            if bound.op == "<=" and bound.name not in spec.figures:  # whose name may be that of a figure of ours
                limit[bound.name] = min(bound.limit, limit.get(bound.name, bound.limit))
        if "e2e_ms" in limit and "e2e_ms" in base.figures:
            network_ms = _network_part(limit["e2e_ms"], base)
            limit["latency_ms"] = min(network_ms, limit.get("latency_ms", network_ms))
        share = {n: limit[n] / base.figures[n].value for n in limit if n in base.figures and base.figures[n].value > 0}
        if "size_mb" in share:
            share["size_mb"] = _params_of_size(limit["size_mb"], base)
        params = min((share[name] for name in _OF_PARAMETERS if name in share), default=None)
        latency = share.get("latency_ms")
        yield (
            _tight(None if latency is None else PLANNED * latency),
            _tight(params),
            _tight(share.get("macs_g")),
        )


def _network_part(limit_ms: float, base: Measurement) -> float:
    """Return the latency that an end-to-end limit leaves: pruning changes nothing before and after the network."""
    around = max(0.0, base.figures["e2e_ms"].value - base.figures["latency_ms"].value)
    return max(0.0, limit_ms - around)


def _params_of_size(limit_mb: float, base: Measurement) -> float:
    """Return the share of parameters that fits into a file.

    The file's overhead grows slightly as a network is pruned, by less than itself (digits study: 33 kB of the base, 48
    kB of small ones).
    """
    size, weights = base.figures["size_mb"].value, _BYTES * base.figures["params_m"].value
    other = 2 * max(size - weights, 0.0)
    return (limit_mb - other) / (size - other) if size > other else limit_mb / size


_BYTES = 4
_OF_PARAMETERS = ("params_m", "size_mb", "weights_mb")
"""Figures whose share of the base's limits that of its parameters: kernels shrink faster than biases do."""


def _tight(share: float | None) -> float | None:
    """Round down, so that a limit stays one; limits that cannot be met are kept too."""
    return None if share is None or share >= 1 else max(math.floor(share * 1e4) / 1e4, 1e-4)
