"""Fine-tuning without a search: one trial in full, or one checkpoint with its masks.

`finetune` of a masked checkpoint puts the zeros back after every step, so the share of zeros is the same before and
after.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from objectives.held_folder import held_folder
from objectives.image_size import Size, written
from search.commands.prune.sparsify import MASK
from search.config.inputs.paths import absolute, is_file
from search.config.inputs.user_code import located, refuse_own
from search.config.overrides import Data, File, InputSize, Order, Place, Seed, Word, recover_spec, trained_size
from search.config.sections import RecoverSpec
from search.deliver.picked_trial import PickedTrial
from search.errors import ConfigError
from search.trial import Measurement
from search.workers.run_isolated import run_isolated

if TYPE_CHECKING:
    from pruning.recovery.repair import Origin


MOST: Mapping[str, Any] = {"epochs": 100, "fraction": 1.0}
"""What a last fine-tune takes unless it is told otherwise: it cools down before when the validation figure rests."""


UNJUDGED = "trained.pt"
"""The network as the last epoch left it, until it is judged and written as the result: it stays if that fails."""


def finetune(picked: PickedTrial, train: Mapping[str, Any]) -> Measurement:
    """Fine-tune a trial in full on all training images; write finetuned.pt beside its deliverables.

    A trial without weights on disk is pruned again from its plan. A fine-tune that is there is not replaced.

    Args:
        train: keys of `recover`, and of YOLO.train.

    Raises:
        ConfigError: an invalid key, the base, or a trial without a plan.
        PreparationFailed: with the exit code of the cause.
    """
    trial = picked.trial
    if trial is None or trial.measurement is None or trial.measurement.plan is None:
        raise ConfigError(f"{picked.name} has no plan to fine-tune", expected="a complete trial")
    if picked.tuned.exists():
        own = picked.is_tuned()
        raise ConfigError(
            f"{picked.tuned} exists already: {'its fine-tune' if own else 'that of another trial, an earlier pick'}",
            next_command=f"to make another: mv {picked.tuned} {picked.tuned.with_name('finetuned-earlier.pt')}",
        )
    picked.folder.mkdir(parents=True, exist_ok=True)
    try:
        weights: Path | None = picked.weights()
    except ConfigError:
        weights = None
    spec = picked.spec
    asked = {**spec.recover.model_dump(), **MOST, **train}
    recover = recover_spec(asked, "keys of YOLO.train")
    arguments = (spec.model_copy(update={"recover": recover}), trial.measurement.plan, weights, picked.imgsz)
    run = picked.results.record.path
    result: Measurement = run_isolated(finetune_in_child, (*arguments, picked.folder, run), picked.folder)
    return result


def finetune_in_child(spec: Any, plan: str, weights: Path | None, imgsz: Size, folder: Path, run: Path) -> Measurement:
    """Run `finetune` in a quiet child process, on the data that the run was measured on."""
    from pruning import Plan
    from pruning.recovery.repair import Origin
    from search.evaluate import pruning_evaluator
    from search.evaluate.data_record import check_data
    from search.evaluate.timing.latency import lock_path
    from search.evaluate.timing.measurement_lock import MeasurementLock
    from search.evaluate.timing.progress import Phases
    from search.evaluate.workload import accuracy_of, load_model, save_model

    seed, device = spec.search.seed, pruning_evaluator.resolve_device(spec.device)
    part, target, unjudged = folder / ".finetuned.part.pt", folder / "finetuned.pt", folder / UNJUDGED
    with MeasurementLock(lock_path()) as turns:
        phase = Phases(folder, turns.pause)
        base = load_model(spec.model)
        check_data(spec, base, run, phase.beat)
        origin = Origin(Plan.from_json(plan).bind(base), base)
        model = origin.plan.apply(base) if weights is None else load_model(weights)
        with phase("recover"):
            judged = pruning_evaluator.fitness_of(spec.data, imgsz, device, folder / "fitness", phase.beat)
            place, sliced = folder / "recover", None if weights is None else origin.plan.apply(base)
            repaired = pruning_evaluator.repair_by(
                spec, model, device, imgsz, seed, place, phase, origin, judged, sliced=sliced,
                on_trained=lambda trained: save_model(trained, unjudged, paretoprune_plan=plan),
            )  # fmt: skip
        save_model(repaired.model, part, paretoprune_plan=plan)
        os.replace(part, target)
        with phase("accuracy"):
            accuracy = accuracy_of(target, spec, imgsz, device, folder / "accuracy")
        unjudged.unlink(missing_ok=True)
    for rest in ("recover", "fitness", "accuracy"):  # Ultralytics' own files
        shutil.rmtree(folder / rest, ignore_errors=True)
    steps, seconds = pruning_evaluator.repair_steps(repaired), phase.seconds
    return Measurement(accuracy.figures, seconds=seconds, per_class=accuracy.per_class, repair=steps)


class Tuning(Order):
    """A fine-tune of one checkpoint. `base`: the unpruned model, which sets the learning rate and is the teacher."""

    example = "paretoprune finetune pruned.pt data=data.yaml base=best.pt epochs=10"
    lacking = "{keys} is needed to fine-tune {model}"

    model: Path
    data: Data
    base: File | None = None
    imgsz: InputSize = Field(default_factory=trained_size)
    device: Word = "auto"
    seed: Seed = 0
    recover: RecoverSpec = RecoverSpec()
    out: Place | None = None

    @classmethod
    def of_file(cls, model: Path, keys: Mapping[str, Any]) -> Self:
        """Parse `key=value` pairs: our own, epochs=, fraction=, batch=, distill=, slimming=, and keys of YOLO.train.

        Raises:
            ConfigError: a missing key, a value of the wrong kind, a missing file.
        """
        own = {key: value for key, value in keys.items() if key in cls.model_fields.keys() - {"model", "recover"}}
        order = super().of_file(model, own)
        rest = {key: value for key, value in keys.items() if key not in own}
        recover = recover_spec({**MOST, **rest}, cls.example)
        return order.model_copy(update={"recover": recover})

    @property
    def file(self) -> Path:
        """Checkpoint to write."""
        return self.out or self.model.with_name(f"{self.model.stem}-finetuned.pt")


def finetune_file(order: Tuning) -> dict[str, Any]:
    """Fine-tune one checkpoint with fixed architecture and masks; return accuracy and sparsity before and after.

    Data with other classes get new class layers (`pruning.recovery.new_classes`), or the same with rows in another
    order; the base, which does not know them, is neither teacher nor reference then.

    Raises:
        ConfigError: the target exists already. PreparationFailed: with the exit code of the cause.
    """
    if order.file.exists():
        raise ConfigError(f"{order.file} exists already", expected="another file: out=FILE.pt")
    with held_folder("finetune") as work:
        facts: dict[str, Any] = run_isolated(tune_in_child, (order, work), work, log_stays=False)
    return facts


def is_own_data(picked: PickedTrial, data: object) -> bool:
    """Return whether `data=` names the data that the run was measured on."""
    named, own = located(str(data), Path.cwd()), picked.spec.data
    return own in (named, str(absolute(Path(named), Path.cwd()))) or _is_same_file(Path(named), Path(own))


def _is_same_file(one: Path, other: Path) -> bool:
    return is_file(one) and is_file(other) and one.samefile(other)


def tuning_elsewhere(picked: PickedTrial, keys: Mapping[str, Any]) -> Tuning:
    """Return the fine-tune of a trial on other data than the search's (`data=`), to a file of its own beside it.

    Raises:
        ConfigError: as `Tuning.of_file`; a task of the user's own; a trial without weights on disk.
    """
    spec = picked.spec
    refuse_own(spec.data, "finetune on other data", f"paretoprune finetune {picked.ref}")
    weights = picked.model()
    out = picked.folder / f"finetuned-{Path(str(keys['data'])).stem}.pt"
    out.parent.mkdir(parents=True, exist_ok=True)
    recover = {key: value for key, value in spec.recover.model_dump().items() if key not in MOST}
    own = {"base": spec.model, "imgsz": picked.imgsz, "device": spec.device, "seed": spec.search.seed, "out": out}
    own |= {} if spec.modules is None else {"modules": spec.modules}
    return Tuning.of_file(weights, {**own, **recover, **keys})


def _for_its_classes(model: Any, data: Path, seed: int) -> tuple[Any, dict[str, Any] | None]:
    """Return the network for the classes of the data set, and what was changed for it, if anything.

    Another number of classes, or the same names in other places: rows of the class layers follow their names, others
    are new. As many classes of which some were renamed: all rows stay.

    Raises ConfigError for a head that cannot be changed to another number.
    """
    from objectives.ultralytics_door import family_of
    from pruning.errors import RecoveryError
    from pruning.recovery.new_classes import with_classes
    from search.config.inputs.dataset import LabelRules, open_dataset

    rules, before = LabelRules.of(model), _names_of(model)
    names = [] if family_of(model) in ("world", "yoloe") else list(open_dataset(data, rules).names)
    if not names or rules.single_cls or names == before:
        return model, None  # what else does not fit is refused by `check_data`
    changed = {"before": before, "after": names, "kept": [name for name in names if name in before]}
    if len(names) == len(before) and not _have_moved(before, names):
        return _renamed(model, names), {**changed, "layers": "kept"}
    try:
        made = with_classes(model, names, seed)
    except RecoveryError as error:
        if len(names) == len(before):  # the fine-tune has to learn what is where
            return _renamed(model, names), {**changed, "layers": "kept"}
        expected = f"a data set of {len(before)} classes"
        raise ConfigError(str(error), where=f"{data}: {len(names)} classes", expected=expected) from error
    return made, {**changed, "layers": "reordered" if sorted(names) == sorted(before) else "new"}


def _names_of(model: Any) -> list[str]:
    return [str(model.names[number]) for number in sorted(model.names)]


def _have_moved(before: list[str], names: list[str]) -> bool:
    """Return whether a class that both know has another number."""
    return any(name in before and before[number] != name for number, name in enumerate(names))


def _renamed(model: Any, names: list[str]) -> Any:
    made = copy.deepcopy(model)
    made.names = dict(enumerate(names))
    return made


def _same_classes(model: Any, base: Path | None) -> Path | None:
    """Return the base if it knows the same classes in their order: otherwise it can neither teach nor be compared."""
    from pruning.checkpoints.checkpoint import load_model

    if base is None:
        return None
    known = load_model(base)
    return base if getattr(known, "names", None) is None or _names_of(known) == _names_of(model) else None


def _origin_of(notes: Mapping[str, Any], base: Path | None) -> Origin | None:
    """Return the base and plan of a checkpoint that we pruned; None for others, and for another base."""
    from pruning import Plan
    from pruning.checkpoints.checkpoint import load_model
    from pruning.errors import PlanError
    from pruning.recovery.repair import Origin
    from search.evaluate.user_task import PLAN

    if base is None or PLAN not in notes:
        return None
    network = load_model(base)
    try:
        return Origin(Plan.from_json(notes[PLAN]).bind(network), network)
    except PlanError:  # a larger teacher
        return None


def tune_in_child(order: Tuning, work: Path) -> dict[str, Any]:
    """Run `finetune_file` in a quiet child process."""
    from objectives.accuracy.measure import measure_accuracy
    from pruning.checkpoints.checkpoint import load_model, read_notes, save_model
    from pruning.recovery.repair import repair
    from pruning.recovery.weight_masks import masks_of, sparsity
    from search.config.inputs.dataset import check_images
    from search.evaluate import pruning_evaluator
    from search.evaluate.user_task import refuse_plain
    from search.prepare.preflight import check_data

    refuse_plain(order.model, "finetune of a file")
    device, notes = pruning_evaluator.resolve_device(order.device), read_notes(order.model)
    model, classes = _for_its_classes(load_model(order.model), order.data, order.seed)
    check_images(check_data(model, order.data))
    base = _same_classes(model, order.base)
    masks = masks_of(model) if MASK in notes else None
    stored = {**notes, "paretoprune_imgsz": written(order.imgsz)}
    zeros = sparsity(model)

    def figures(subject: Any, name: str) -> dict[str, float]:
        found = measure_accuracy(subject, order.data, imgsz=order.imgsz, device=device, work_dir=work / name)
        return {figure: estimate.value for figure, estimate in found.figures.items()}

    before = figures(model, "before")
    unjudged = order.file.with_name(f"{order.file.stem}-{UNJUDGED}")
    how = pruning_evaluator.recovery_of(order.recover, imgsz=order.imgsz, device=device, seed=order.seed)
    fitness = pruning_evaluator.fitness_of(order.data, order.imgsz, device, work / "fitness")
    origin, place = _origin_of(notes, base), work / "recover"
    repaired = repair(
        model, order.data, how, origin=origin, base=base, masks=masks, work_dir=place, fitness=fitness,
        on_trained=lambda trained: save_model(trained, unjudged, **stored),
    )  # fmt: skip
    part = order.file.with_name(f".{order.file.name}.part")
    try:
        save_model(repaired.model, part, **stored)
        os.replace(part, order.file)
    except OSError as error:
        raise ConfigError(f"cannot write {order.file}: {error.strerror}", where="out=") from error
    shutil.rmtree(work / "recover", ignore_errors=True)
    tuned = load_model(order.file)
    unjudged.unlink(missing_ok=True)
    return {
        "model": str(order.file),
        "classes": classes,
        "mask": notes.get(MASK),
        "sparsity": {"before": zeros, "after": sparsity(tuned)},
        "figures": {"before": before, "after": figures(tuned, "after")},
        "repair": [asdict(step) for step in pruning_evaluator.repair_steps(repaired)],
    }
