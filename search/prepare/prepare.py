"""Preparation: trace, score and measure the base, and build the evaluator.

It runs in a child process, so that the coordinator stays small and a crash while tracing is an error message.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from objectives.image_size import Size
from search.config.sections import STRIDE
from search.config.spec import StudySpec
from search.errors import NotComparable
from search.evaluate.base_measurement import FurtherBase, check_same_precision, measure_base
from search.evaluate.evaluator import EvaluatorByBase
from search.evaluate.timing.progress import Phases, discard_progress, read_progress
from search.evaluate.timing.threads import limit_threads, share_of_cores
from search.prepare.prepared import FinalMeasurements, Prepared
from search.run_folder.atomic import write_json
from search.run_folder.quarantine import derived_json
from search.run_folder.record import RunRecord
from search.space import JointSpace, LevelLike, offered_levels
from search.trial import Measurement
from search.workers.child_process import PRELOAD
from search.workers.run_isolated import run_isolated

if TYPE_CHECKING:
    from search.evaluate.pruning_evaluator import Reference
    from search.propose.guided import Adviser

Say = Callable[[str], None]
"""Called a few times a second with what is being done; what it raises ends the preparation."""

Preparation = Callable[[StudySpec, RunRecord, Say], Prepared]
"""Makes a study ready to search; writes base/ of the record."""

LEVELS = "levels.json"

_SAID = {
    "": "starting",
    "load": "reading the model",
    "data": "reading the images and labels",
    "trace": "tracing the model",
    "levels": "counting the objects on each detection level",
    "score": "scoring its channels",
    "export": "exporting the base",
    "latency": "measuring the base: latency",
    "accuracy": "measuring the base: accuracy",
    "sensitivity": "measuring how much each part of the network can lose:",
    "variants": "measuring the base at other input sizes:",
    "probes": "timing a few shapes, to predict the latency of others:",
}


def prepare_pruning(spec: StudySpec, record: RunRecord, say: Say = lambda text: None) -> Prepared:
    """Trace, score and measure the base; figures in base/base.json are not measured again. Of several bases each.

    Raises:
        PreparationFailed: with the exit code of the child's error.
        NotComparable: the groups found now are not those of the run. That of other data is PreparationFailed, too.
    """
    first = _prepared(spec, record, say, None)
    if len(spec.models) == 1:
        return first
    names = spec.base_names
    parts = [first]
    for place in range(1, len(names)):
        further = FurtherBase(place, reference_of(spec, record.base_dir / base_name(spec), first.base))
        own = _with_limits_of(spec, first.base).of_base(place)
        parts.append(_prepared(own, record.of_base(place), _naming(names[place], say), further))
    return joined(parts, names)


def _naming(base: str, say: Say) -> Say:
    return lambda text: say(f"{base}: {text}")


def _with_limits_of(spec: StudySpec, base: Measurement) -> StudySpec:
    """Return the study with budgets in figures: a share, `60%`, is one of the first base's for all."""
    figures = {name: figure.value for name, figure in base.figures.items()}
    budgets = {name: {bound.name: bound.limit for bound in spec.budget(name, figures)} for name in spec.budgets}
    return spec.model_copy(update={"budgets": budgets})


def reference_of(spec: StudySpec, onnx: Path, base: Measurement) -> Reference:
    """Return what candidates of every base are compared with: the first base and its ONNX file."""
    from search.evaluate.deployment.pictures import recorded_pictures
    from search.evaluate.pruning_evaluator import Reference

    milliseconds, pictures = base.figures["latency_ms"].value, recorded_pictures(onnx.parent)
    further = {name: base.figures[name].value for name in base.timing.get("further", {})}
    return Reference(
        onnx, Path(spec.model), spec.imgsz, milliseconds, base.per_class, base.replicates, further, pictures
    )


def joined(parts: Sequence[Prepared], names: Sequence[str]) -> Prepared:
    """Return the preparation of a study of several bases from that of each, in their order."""
    return replace(
        parts[0],
        evaluator=EvaluatorByBase(tuple(part.evaluator for part in parts)),
        notes=tuple(f"{name}: {note}" for name, part in zip(names, parts, strict=True) for note in part.notes),
        guide=_joined_guides(parts),
        final=_joined_final(parts),
        joint=JointSpace(tuple(part.space for part in parts)),
    )


def _joined_guides(parts: Sequence[Prepared]) -> Adviser | None:
    """Return the guides of all bases; None where one of them has none."""
    from search.propose.bases.division import BaseGuide, GuideByBase
    from search.propose.guided import Guide

    found = []
    for part in parts:
        if not isinstance(part.guide, Guide):
            return None
        cost = "macs_g" if part.guide.relearning is None else "latency_ms"  # what its costs are shares of
        found.append(BaseGuide(part.guide, part.base.figures[cost].value / parts[0].base.figures[cost].value))
    return GuideByBase(tuple(found))


def _joined_final(parts: Sequence[Prepared]) -> FinalMeasurements | None:
    from search.evaluate.final_measurements import PruningFinalMeasurements

    finals = [part.final for part in parts if isinstance(part.final, PruningFinalMeasurements)]
    if len(finals) < len(parts):
        return None
    return replace(finals[0], others=tuple((one.evaluator, one.base) for one in finals[1:]))


def _prepared(spec: StudySpec, record: RunRecord, say: Say, further: FurtherBase | None) -> Prepared:
    """Prepare one base, in a child process."""
    record.base_dir.mkdir(parents=True, exist_ok=True)
    discard_progress(record.base_dir)
    facts: Prepared = run_isolated(
        prepare_in_child,
        (spec, record.base_dir, record.read_base(), further),
        record.base_dir,
        lambda: say(_said(read_progress(record.base_dir).phase)),
        stuck_s=spec.stuck_s,
    )
    discard_progress(record.base_dir)
    _check_groups(record, facts.groups)
    record.write_base(facts.base)
    record.write_groups(facts.groups)
    return facts


def _said(progress: str) -> str:
    phase, _, share = progress.partition(" ")
    return f"{_SAID.get(phase, phase)} {share}".rstrip(" :")


def prepare_in_child(
    spec: StudySpec, base_dir: Path, known: Measurement | None, further: FurtherBase | None = None
) -> Prepared:
    """Trace, score and measure the base: what `prepare_pruning` does, in a child process that may crash.

    Of a study of several bases the first, which has looked at the others before it is measured, or a `further` one.

    Raises:
        NotComparable: the figures that are `known` are those of another precision than the study's own.
    """
    if known is not None:
        check_same_precision(known, spec, base_dir / "base.json")
    from objectives.ultralytics_door import stride_of
    from pruning import trace
    from search.evaluate import pruning_evaluator
    from search.evaluate.data_record import record_data
    from search.evaluate.deployment.pictures import deployment_pictures
    from search.evaluate.final_measurements import PruningFinalMeasurements
    from search.evaluate.importance_scores import scores_of
    from search.evaluate.workload import example_input, load_model
    from search.prepare.guide_setup import Subject, guide_of
    from search.prepare.latency_probes import read_model
    from search.prepare.preflight import check_before, check_objectives, check_same_outputs
    from search.space import Space

    limit_threads(share_of_cores(1))
    phase = Phases(base_dir)
    with phase("load"):
        model = load_model(spec.model)
        check_before(spec, model)
        for number in range(1, len(spec.models)):
            other = load_model(spec.models[number])
            check_same_outputs(spec, model, other, number)
            check_before(spec.of_base(number), other)
    with phase("data"):
        notes = (
            ()
            if further
            else record_data(spec, model, base_dir.parent, is_measured=known is not None, beat=phase.beat).notes
        )
    with phase("trace"):
        graphs: dict[Size, Any] = {
            size: trace(model, example_input(model, size)) for size in pruning_evaluator.sizes_of(spec)
        }
    graph = graphs[spec.imgsz]
    device = pruning_evaluator.resolve_device(spec.device)
    with phase("levels"):
        levels = levels_of(spec, model, graph, device, base_dir, phase.beat)
    space = Space.from_graph(graph, spec.searched_space, spec.sizes, max(STRIDE, stride_of(model)), levels)
    with phase("score"):
        scores = scores_of(model, graph, spec.space.importance, data=spec.data, imgsz=spec.imgsz, folder=base_dir)
    with phase("export"):
        onnx = base_file(spec, model, base_dir, is_measured=known is not None)
    base = known or measure_base(spec, model, graph, onnx, device, base_dir, phase, further)
    check_objectives(spec, base)
    if further is None:  # also where the record of them is gone
        deployment_pictures(spec, model, base_dir, base.timing.get("further", {}), phase.beat)
    _write_for_the_page(spec, graphs, space, device, base_dir)
    reference = further.reference if further else reference_of(spec, onnx, base)
    evaluator = pruning_evaluator.PruningEvaluator(spec, space, graphs, scores, reference, device)
    if further is not None:
        evaluator = replace(evaluator, place=further.place, base_ms=base.figures["latency_ms"].value)
    guide = None
    if spec.search.sampler == "auto":
        subject = Subject(spec, model, graph, space, scores, onnx, base_dir.parent, graphs, device)
        guide = guide_of(subject, base, phase)
        evaluator = replace(evaluator, latency=read_model(subject.run / "latency"))
    rows, final = pruning_evaluator.group_rows(graph), PruningFinalMeasurements(evaluator, base)
    said = () if further or spec.target is None else spec.target.said()
    return Prepared(evaluator, space, base, rows, (*said, *notes, *_notes(graph, base)), PRELOAD, guide, final)


def levels_of(
    spec: StudySpec, model: Any, graph: Any, device: str, base_dir: Path, beat: Callable[[], None]
) -> tuple[LevelLike, ...]:
    """Return the detection levels that may be removed; base/levels.json says which are idle, counted once."""
    from search.evaluate.workload import level_use

    path = base_dir / LEVELS
    known = derived_json(path)
    if spec.space.levels is True and not known and graph.levels:
        used = level_use(model, spec.data, imgsz=spec.imgsz, device=device, work_dir=base_dir / "accuracy", beat=beat)
        shutil.rmtree(base_dir / "accuracy", ignore_errors=True)
        known = {"format": 1, "idle": []} if used is None else {"format": 1, **used.to_json()}
        write_json(path, known, durable=False)
    names = () if graph.pyramid is None else graph.pyramid.names
    return offered_levels(spec.space.levels, graph.levels, known.get("idle", ()), names)


def _write_for_the_page(spec: StudySpec, graphs: Any, space: Any, device: str, base_dir: Path) -> None:
    """Write derived data of the dashboard, once per study."""
    from search.evaluate.sample_images import FOLDER, draw_samples
    from search.prepare import whatif_table

    write_json(
        base_dir / whatif_table.FILE, whatif_table.what_if_table(graphs, space, spec.space.round_to), durable=False
    )
    if not (base_dir / FOLDER).is_dir():
        draw_samples(Path(spec.model), spec.data, imgsz=spec.imgsz, device=device, folder=base_dir / FOLDER)


def base_name(spec: StudySpec) -> str:
    """Return the name of the base's file for timing, in base/."""
    from search.evaluate.reduced_precision import timed_name

    return timed_name(spec, spec.precision, "base")


def base_file(spec: StudySpec, model: Any, base_dir: Path, *, is_measured: bool) -> Path:
    """Return the base's file for timing; a quantised one, which takes minutes, is that of the base's measurement."""
    from search.evaluate.reduced_precision import file_to_time

    path = base_dir / base_name(spec)
    if is_measured and spec.precision != "fp32" and path.exists():
        return path
    return file_to_time(model, spec, spec.precision, spec.imgsz, base_dir / "base")


def _notes(graph: Any, base: Measurement) -> tuple[str, ...]:
    notes = list(base.notes)
    if graph.unsupported:
        names = ", ".join(graph.unsupported)
        notes.append(f"operators without a rule, whose channels stay as they are: {names}")
    return tuple(notes)


def _check_groups(record: RunRecord, groups: Any) -> None:
    """Refuse an old run whose groups have other names: its vectors would be meaningless."""
    before = record.read_groups()
    if before and [row["name"] for row in before] != [row["name"] for row in groups]:
        raise NotComparable(
            "the groups found in the model differ from those that the run began with",
            where=str(record.base_dir / "groups.json"),
            expected="the version of paretoprune that made the run",
            next_command="start a new run with name=NEW_NAME",
        )
