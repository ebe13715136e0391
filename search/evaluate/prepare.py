"""Before the first trial: trace and score the base, measure it once, and build the evaluator.

It runs in a child process, so that the coordinator stays small and a crash while tracing is an error message.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from search.atomic import write_json
from search.errors import NotComparable, ParetoPruneError
from search.evaluate.evaluator import Prepared
from search.evaluate.isolation import PRELOAD, Child
from search.evaluate.phases import Phases, discard_standing, read_standing
from search.evaluate.pulse import Pulse
from search.evaluate.threads import limit_threads, share_of_cores
from search.evaluate.turnstile import Turnstile
from search.record import BATCHES, RunRecord
from search.spec import StudySpec
from search.trial import Failure, FailureKind, Measurement

Say = Callable[[str], None]
"""Called a few times a second with what is being done."""

Preparation = Callable[[StudySpec, RunRecord, Say], Prepared]
"""Makes a study ready to search; writes base/ of the record."""

_SAID = {
    "": "starting",
    "load": "reading the model and the data",
    "trace": "tracing the model",
    "score": "scoring its channels",
    "export": "exporting the base",
    "latency": "measuring the base: latency",
    "accuracy": "measuring the base: accuracy",
    "sensitivity": "measuring how much each part of the network can lose:",
    "variants": "measuring the base at other input sizes:",
    "probes": "timing a few shapes, to predict the latency of others:",
}
_POLL_S = 0.25


class PreparationFailed(ParetoPruneError):
    """The base could not be traced or measured. `log`: where to read what happened, if nobody foresaw it."""

    log: Path | None = None


@dataclass(frozen=True)
class Refusal:
    """A foreseen error of the child, carried over the pipe: its text and its exit code."""

    text: str
    code: int


def prepare_pruning(spec: StudySpec, record: RunRecord, say: Say = lambda text: None) -> Prepared:
    """Trace, score and measure the base; what is in base/base.json already is not measured again.

    Raises:
        PreparationFailed: with the exit code of what went wrong in the child.
        NotComparable: the groups found now are not those that the run began with.
    """
    record.base_dir.mkdir(parents=True, exist_ok=True)
    discard_standing(record.base_dir)
    facts: Prepared = run_isolated(
        prepare_in_child,
        (spec, record.base_dir, record.read_base()),
        record.base_dir,
        lambda: say(_said(read_standing(record.base_dir).phase)),
        stuck_s=spec.stuck_s,
    )
    discard_standing(record.base_dir)
    _check_groups(record, facts.groups)
    record.write_base(facts.base)
    record.write_groups(facts.groups)
    return facts


def _said(standing: str) -> str:
    phase, _, share = standing.partition(" ")
    return f"{_SAID.get(phase, phase)} {share}".rstrip(" :")


def run_isolated(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    folder: Path,
    while_waiting: Callable[[], None] = lambda: None,
    *,
    log_stays: bool = True,
    stuck_s: float = float("inf"),
) -> Any:
    """Call a function in a child and wait for it; its log is folder/prepare.log.

    Args:
        log_stays: False for a folder that is about to disappear: no error points into it.
        stuck_s: seconds without a sign of life after which the child is given up; its stacks are in the log then.

    Raises:
        PreparationFailed: the child crashed, or raised; foreseen errors keep their text and exit code.
    """
    log = folder / "prepare.log"
    log.unlink(missing_ok=True)
    child = Child(guarded, (function, arguments), log=log, error_path=folder / "error.txt", preload=PRELOAD)
    pulse = Pulse(folder, time.monotonic())
    try:
        while (answer := child.result()) is None:
            while_waiting()
            wait(child.waitables, _POLL_S)
            if pulse.silent_s(time.monotonic()) > stuck_s:
                child.dump_stacks()
                stuck: Any = Failure(FailureKind.STUCK, f"no sign of life for {stuck_s / 60:.3g} minutes")
                answer = (False, stuck)
                break
    finally:
        child.kill()
    returned, value = answer
    if returned and not isinstance(value, Refusal):
        return value
    text = value.text if returned else f"{value.kind.value}: {value.message}"
    shown = None if returned or not log_stays else log
    error = PreparationFailed(text, where=None if shown is None else str(shown))
    error.log = shown
    error.exit_code = value.code if returned else error.exit_code
    raise error


def guarded(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The function's value; a foreseen error comes back as a `Refusal`, because not every exception pickles."""
    from search.errors import exit_code, is_foreseen

    try:
        return function(*arguments)
    except Exception as error:
        if is_foreseen(error):
            return Refusal(str(error), exit_code(error))
        raise


def prepare_in_child(spec: StudySpec, base_dir: Path, known: Measurement | None) -> Prepared:
    """What `prepare_pruning` does, in the process that may crash."""
    from pruning import trace
    from search.evaluate import pruned
    from search.evaluate.closing import PruningClosing
    from search.evaluate.guided import Subject, guide_of
    from search.evaluate.preflight import check_before, check_objectives
    from search.evaluate.probes import read_model
    from search.evaluate.scores import scores_of
    from search.evaluate.workload import example_input, load_model
    from search.space import Space

    limit_threads(share_of_cores(1))
    phase = Phases(base_dir)
    with phase("load"):
        model = load_model(spec.model)
        check_before(spec, model)
    with phase("trace"):
        graphs = {size: trace(model, example_input(model, size)) for size in pruned.sizes_of(spec)}
    graph = graphs[spec.imgsz]
    space = Space.from_graph(graph, spec.searched_space, spec.sizes)
    with phase("score"):
        scores = scores_of(model, graph, spec.space.importance, data=spec.data, imgsz=spec.imgsz, folder=base_dir)
    device = pruned.resolve_device(spec.device)
    with phase("export"):
        onnx = _base_onnx(spec, model, base_dir)
    base = known or measure_base(spec, model, graph, onnx, device, base_dir, phase)
    check_objectives(spec, base)
    _write_for_the_page(spec, graphs, space, device, base_dir)
    milliseconds = base.figures["latency_ms"].value
    reference = pruned.Reference(onnx, Path(spec.model), spec.imgsz, milliseconds, base.per_class, base.replicates)
    evaluator = pruned.PruningEvaluator(spec, space, graphs, scores, reference, device)
    guide = None
    if spec.search.sampler == "auto":
        subject = Subject(spec, model, graph, space, scores, onnx, base_dir.parent, graphs, device)
        guide = guide_of(subject, base, phase)
        evaluator = replace(evaluator, latency=read_model(subject.run / "latency"))
    rows, closing = pruned.group_rows(graph), PruningClosing(evaluator, base)
    return Prepared(evaluator, space, base, rows, _notes(graph, base), PRELOAD, guide, closing)


def _write_for_the_page(spec: StudySpec, graphs: Any, space: Any, device: str, base_dir: Path) -> None:
    """What the dashboard shows beside figures: derived, made once per study."""
    from search import whatif
    from search.evaluate.samples import FOLDER, draw_samples

    write_json(base_dir / whatif.FILE, whatif.what_if_table(graphs, space, spec.space.round_to), durable=False)
    if not (base_dir / FOLDER).is_dir():
        draw_samples(Path(spec.model), spec.data, imgsz=spec.imgsz, device=device, folder=base_dir / FOLDER)


def measure_base(
    spec: StudySpec, model: Any, graph: Any, onnx: Path, device: str, base_dir: Path, phase: Phases
) -> Measurement:
    """The unpruned model, measured as the trials are: its checkpoint as it lies on disk.

    Its latency is the study's reference, hence exact.
    """
    from objectives.objective import Estimate
    from search.evaluate import pruned, timing, timings

    widths = {group.name: group.size for group in graph.groups}
    with Turnstile(timing.lock_path()) as turns:
        with phase("latency"):
            sides = [timing.open_timed(spec.latency, onnx, model, spec.imgsz) for _ in range(2)]
            (latency,) = timing.measure(sides[:1], sides[1], spec.latency, turns, seed=spec.search.seed)
            known = timings.Timings(base_dir.parent / "latency")
            known.add(timings.timing_key(spec.latency, timings.widths_digest(widths), spec.imgsz, spec.imgsz), latency)
        limit_threads(share_of_cores(1))
        with phase("accuracy"):
            place, shelf = base_dir / "accuracy", base_dir / BATCHES
            accuracy = pruned.accuracy_of(Path(spec.model), spec, spec.imgsz, device, place, shelf, phase.beat)
    shutil.rmtree(base_dir / "accuracy", ignore_errors=True)
    figures = pruned.cost_figures(graph.cost(), onnx)
    figures["latency_ms"] = Estimate.exact(latency.reference_ms)
    if accuracy.per_class:
        figures["per_class_drop"] = Estimate.exact(0.0)
    return Measurement(
        figures={**accuracy.figures, **figures},
        widths=widths,
        seconds=phase.seconds,
        per_class=accuracy.per_class,
        paired=dict.fromkeys(accuracy.replicates, 0.0),
        replicates=accuracy.replicates,
        notes=pruned.latency_notes(latency),
        timing=pruned.timing_facts(spec.latency, latency),
    )


def _base_onnx(spec: StudySpec, model: Any, base_dir: Path) -> Path:
    from objectives.runtimes import export_for_timing

    return export_for_timing(model, base_dir / "base.onnx", imgsz=spec.imgsz, batch=spec.latency.batch)


def _notes(graph: Any, base: Measurement) -> tuple[str, ...]:
    notes = list(base.notes)
    if graph.unsupported:
        names = ", ".join(graph.unsupported)
        notes.append(f"operators without a rule, whose channels stay as they are: {names}")
    return tuple(notes)


def _check_groups(record: RunRecord, groups: Any) -> None:
    """The vectors of an old run mean nothing when the groups have other names."""
    before = record.read_groups()
    if before and [row["name"] for row in before] != [row["name"] for row in groups]:
        raise NotComparable(
            "the groups found in the model differ from those that the run began with",
            where=str(record.base_dir / "groups.json"),
            expected="the version of paretoprune that made the run",
            next_command="start a new run with name=NEW_NAME",
        )
