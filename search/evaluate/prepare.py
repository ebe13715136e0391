"""Before the first trial: trace and score the base, measure it once, and build the evaluator.

It runs in a child process, so that the coordinator stays small and a crash while tracing is an error message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from search.errors import NotComparable, ParetoPruneError
from search.evaluate.evaluator import Prepared
from search.evaluate.isolation import PRELOAD, Child
from search.record import RunRecord
from search.spec import StudySpec
from search.trial import Measurement

Preparation = Callable[[StudySpec, RunRecord], Prepared]
"""Makes a study ready to search; writes base/ of the record."""


class PreparationFailed(ParetoPruneError):
    """The base could not be traced or measured."""


@dataclass(frozen=True)
class Refusal:
    """A foreseen error of the child, carried over the pipe: its text and its exit code."""

    text: str
    code: int


def prepare_pruning(spec: StudySpec, record: RunRecord) -> Prepared:
    """Trace, score and measure the base; what is in base/base.json already is not measured again.

    Raises:
        PreparationFailed: with the exit code of what went wrong in the child.
        NotComparable: the groups found now are not those that the run began with.
    """
    record.base_dir.mkdir(parents=True, exist_ok=True)
    facts: Prepared = run_isolated(prepare_in_child, (spec, record.base_dir, record.read_base()), record.base_dir)
    _check_groups(record, facts.groups)
    record.write_base(facts.base)
    record.write_groups(facts.groups)
    return facts


def run_isolated(function: Callable[..., Any], arguments: tuple[Any, ...], folder: Path) -> Any:
    """Call a function in a child and wait for it; its log is folder/prepare.log.

    Raises:
        PreparationFailed: the child crashed, or raised; foreseen errors keep their text and exit code.
    """
    log = folder / "prepare.log"
    log.unlink(missing_ok=True)
    child = Child(guarded, (function, arguments), log=log, error_path=folder / "error.txt", preload=PRELOAD)
    try:
        while (answer := child.result()) is None:
            wait(child.waitables, 1.0)
    finally:
        child.kill()
    returned, value = answer
    if returned and not isinstance(value, Refusal):
        return value
    text = value.text if returned else f"{value.kind.value}: {value.message}"
    error = PreparationFailed(text, where=None if returned else str(log))
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
    import torch

    from pruning import trace
    from pruning.checkpoint import load_model
    from search.evaluate import pruned
    from search.space import Space

    model = load_model(spec.model)
    channels = int(getattr(model, "yaml", {}).get("channels", 3))
    sizes = tuple(pruned.sizes_of(spec))
    graphs = {size: trace(model, torch.zeros(1, channels, size, size)) for size in sizes}
    graph = graphs[spec.imgsz]
    space = Space.from_graph(graph, spec.space, spec.sizes)
    scores = graph.score(model, spec.space.importance)
    device = pruned.resolve_device(spec.device)
    onnx = _base_onnx(spec, model, base_dir)
    base = known or measure_base(spec, model, graph, onnx, device, base_dir)
    reference = pruned.Reference(onnx, Path(spec.model), spec.imgsz, base.figures["latency_ms"].value)
    evaluator = pruned.PruningEvaluator(spec, space, graphs, scores, reference, device)
    notes = _notes(graph, base)
    return Prepared(evaluator, space, base, pruned.group_rows(graph), notes, PRELOAD)


def measure_base(spec: StudySpec, model: Any, graph: Any, onnx: Path, device: str, base_dir: Path) -> Measurement:
    """The unpruned model, measured as the trials are. Its latency is the study's reference, hence exact."""
    from objectives.accuracy import measure_accuracy
    from objectives.latency import compare, measuring_lock
    from objectives.objective import Estimate
    from search.evaluate import pruned
    from search.evaluate.phases import Phases

    phase = Phases(base_dir, ("latency", "accuracy"))
    with phase("latency"), measuring_lock(pruned.lock_path()):
        runners = [pruned.open_timed(spec.latency, onnx, model, spec.imgsz) for _ in range(2)]
        latency = compare(runners[0], runners[1], cap_s=spec.latency.seconds, seed=spec.search.seed)
    with phase("accuracy"):
        accuracy = measure_accuracy(model, spec.data, imgsz=spec.imgsz, device=device, work_dir=base_dir / "accuracy")
    figures = pruned.cost_figures(graph.cost(), onnx)
    figures["latency_ms"] = Estimate.exact(latency.reference_ms)
    return Measurement(
        figures={**accuracy.figures, **figures},
        widths={group.name: group.size for group in graph.groups},
        seconds=phase.seconds,
        per_class=accuracy.per_class,
        notes=pruned.latency_notes(latency),
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
