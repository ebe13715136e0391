"""Preflight checks of device, model and data set, before anything is traced, timed or written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from objectives.image_size import Size, rounded, sides, written
from objectives.objective import NAMED_ONLY, TASK_FIGURES
from objectives.runtimes.names import is_command
from objectives.runtimes.torch_runner import input_channels
from objectives.ultralytics_door import family_of, stride_of
from objectives.weights import module_count
from search.config.bases import check_same
from search.config.devices import check_device
from search.config.inputs.checkpoint_facts import ModelOutputs
from search.config.inputs.dataset import Dataset, LabelRules, open_dataset
from search.config.inputs.user_code import UserReference
from search.config.overrides import check_sides
from search.config.precision_support import file_format
from search.config.sections import RecoverSpec
from search.config.spec import StudySpec
from search.config.targets.limits import family_of_blocks
from search.errors import ConfigError, near_miss
from search.trial import Measurement


def check_before(spec: StudySpec, model: Any) -> None:
    """Run all checks, cheapest first.

    Raises:
        ConfigError: see `check_data`. DeviceMissing: no such GPU. BackendMissing: the runtime is not installed.
    """
    check_device(spec.device)
    if spec.latency.runtime in ("torch", "onnxruntime", "tensorrt"):  # the others have devices of their own
        check_device(spec.latency.device)
    check_runtime(spec.latency.runtime)
    check_deployed(spec)
    check_sizes(model, (spec.imgsz, *spec.sizes))
    if UserReference.parse(spec.data) is not None:
        _check_own(spec)
        return
    _check_task(spec, str(getattr(model, "task", "detect")))
    check_target(spec, model)
    _check_precisions(spec)
    check_data(model, Path(spec.data))


def _check_own(spec: StudySpec) -> None:
    """Check that a user's own task exists and that no option of Ultralytics' trainers is set."""
    from pruning.importance import DATA_CRITERIA
    from search.evaluate.user_task import task_of

    task_of(UserReference.required(spec.data))
    if spec.space.importance in DATA_CRITERIA:
        known = "l1, l2, bn_gamma or another that needs no labels"
        raise ConfigError(f"{spec.space.importance} needs labels", where="space.importance", expected=known)
    if set(spec.space.precision) != {"fp32"}:
        what = "a model of your own is exported in float32"
        raise ConfigError(what, where="space.precision", expected="[fp32]")
    usual = RecoverSpec()
    for key in ("fraction", "batch", "slimming", "train"):
        if getattr(spec.recover, key) != getattr(usual, key):
            what = f"recover.{key} is for Ultralytics' trainer"
            raise ConfigError(what, where="recover", expected="epochs; the rest is decided by your finetune()")


def _check_precisions(spec: StudySpec) -> None:
    """Check that packages for reduced precision are installed. Raises BackendMissing."""
    from search.export.formats import BITS, FORMATS, checked_targets

    reduced = [BITS[precision] for precision in spec.space.precision if precision != "fp32"]
    if reduced:
        form = file_format(spec.latency.runtime)
        checked_targets([form], reduced, device="0" if FORMATS[form].gpu else "cpu")


def _check_task(spec: StudySpec, task: str) -> None:
    """Refuse figures of another task in objectives, constraints and budgets, such as an mAP of masks for a detector."""
    own = TASK_FIGURES.get(task, ())
    foreign = {name for figures in TASK_FIGURES.values() for name in figures} - set(own)
    named = {"objectives": spec.objectives, "constraints": spec.constraints, "budgets": spec.budget_figures}
    for where, names in named.items():
        for name in names:
            if name in foreign:
                raise ConfigError(f"{name} is no figure of a {task} model", where=where, expected=", ".join(own))


def check_target(spec: StudySpec, model: Any) -> None:
    """Check that the exporter of the study's target takes such a network, by its task and its number of modules.

    Raises:
        ConfigError: it does not, or there is no such format.
    """
    from search.export.format_table import FORMATS

    if spec.target is None:
        return
    target, base = spec.target, Path(spec.model).name
    if (form := target.export.format) not in FORMATS:
        what = f"target {target.name} is exported as {form!r}, which is no format"
        raise ConfigError(what, where="export: format", expected=", ".join(FORMATS), near=near_miss(form, FORMATS))
    task = str(getattr(model, "task", "detect"))
    family = family_of_blocks({type(module).__name__ for module in model.modules()})
    limits = target.network(family, task)
    if limits is None:
        what = f"target {target.name} takes {', '.join(target.tasks)}; {base} is a model of task {task}"
        raise ConfigError(what, where="target", expected="such a model, or another target")
    if limits.modules and (count := module_count(model)) not in limits.modules:
        wanted = " or ".join(map(str, limits.modules))
        raise ConfigError(
            f"the exporter for target {target.name} takes networks of {wanted} modules; {base} has {count} when fused",
            where="target",
            expected="a model of the family and the depth that it takes, pruned in width only",
        )


def check_deployed(spec: StudySpec) -> None:
    """Check that the costs beside latency which the study names can be measured on its runtime.

    Raises:
        ConfigError: one cannot. CounterMissing: no counter of energy can be read.
    """
    runtime, is_own = spec.latency.runtime, UserReference.parse(spec.data) is not None
    if is_command(runtime):
        return  # what its program does not print is refused after its first call
    if spec.figures and not is_own:
        name = next(iter(spec.figures))
        what = f"nothing measures {name}: figures of your own come from a task of your own, or from a program"
        raise ConfigError(what, where="figures", expected="latency.runtime: command:PROGRAM, which prints it as JSON")
    for name in spec.deployed:
        fault = _deployment_fault(name, runtime, spec.latency.device, is_own=is_own)
        if fault is not None:
            where = "objectives, constraints and budgets"
            raise ConfigError(fault, where=where, expected=f"another runtime, or a command: that prints {name}")
    if "energy_mj" in spec.deployed:
        from objectives.resources.energy import open_counter

        open_counter(spec.latency.device, spec.latency.runtime)


def _deployment_fault(name: str, runtime: str, device: str, *, is_own: bool) -> str | None:
    """Return why a cost cannot be measured on a runtime, or None."""
    if name == "e2e_ms" and is_own:
        return "e2e_ms is timed with Ultralytics' pre- and post-processing, which a task of your own does not have"
    if name == "e2e_ms" and runtime == "tensorrt":
        return "e2e_ms is not timed on tensorrt, whose inputs and outputs stay on the GPU here"
    if name == "energy_mj" and runtime == "openvino" and device.lower() != "cpu":
        return f"energy_mj is counted of processors and of NVIDIA's GPUs, and OpenVINO computes on {device}"
    if name == "memory_mb" and runtime == "torch":
        return "memory_mb is that of a process that runs an exported file, and torch runs none"
    if name == "memory_mb" and (runtime == "tensorrt" or device not in ("cpu", "CPU")):
        return f"memory_mb is that of a process on the CPU, and {runtime} computes on another device"
    return None


def check_objectives(spec: StudySpec, base: Measurement) -> None:
    """Check that the base has every figure that the study names; trials would lack it too.

    Raises:
        ConfigError: names the figure, and the measured ones.
    """
    missing = [name for name in spec.named_figures if name not in base.figures]
    if missing:
        what = f"the base has no {missing[0]}"
        hint = ": no object in the validation images is below 32 x 32 px" if "small" in missing[0] else ""
        if missing[0] in NAMED_ONLY and spec.names_ours(missing[0]):
            hint = ": it was measured before the study named that; start a new run with name=NEW_NAME"
        where = "objectives, constraints and budgets"
        raise ConfigError(what + hint, where=where, expected=", ".join(base.figures))


def check_same_outputs(spec: StudySpec, first: Any, other: Any, number: int) -> None:
    """Check that base `number` solves the task of the first one, with the same classes in the same order.

    Raises:
        ConfigError: it does not.
    """
    check_same(spec.model, spec.models[number], _facts(first), _facts(other))


def _facts(model: Any) -> ModelOutputs:
    names = getattr(model, "names", None) or {}
    classes = tuple(map(str, names.values() if isinstance(names, dict) else names))
    return ModelOutputs(str(getattr(model, "task", "detect")), classes=classes or None)


def check_sizes(model: Any, sizes: Iterable[Size]) -> None:
    """Refuse input sizes, in px, that are no multiples of the model's largest stride, 64 for P6 models.

    And rectangles for a classifier: its images are cropped to squares, in training and in every validation. And for any
    model of Ultralytics whose release has none (`check_sides`).
    """
    stride, task = stride_of(model), getattr(model, "task", None)
    for size in sizes:
        if any(side % stride for side in sides(size)):
            raise ConfigError(
                f"{written(size)} is not a multiple of {stride}, the largest stride of this model",
                where="imgsz",
                expected=f"{written(rounded(size, stride))}",
            )
        if not isinstance(size, int) and task == "classify":
            raise ConfigError(
                f"{written(size)}: a classifier is trained and validated on squares, cropped from the images",
                where="imgsz",
                expected=f"one side, such as {max(size)}",
            )
        if task is not None:
            check_sides(size, "imgsz")


def check_runtime(runtime: str, *, converts: bool = True) -> None:
    """Check that the runtime's package, or program, is installed, and what makes its files. Raises BackendMissing.

    Args:
        converts: False where the files are there already.
    """
    from objectives.runtimes.command_runner import check_program
    from objectives.runtimes.names import check_packages, command_words, is_command

    if is_command(runtime):
        check_program(command_words(runtime)[0], runtime)
    else:
        check_packages(runtime, converts=converts)


def check_data(model: Any, data: Path) -> Dataset:
    """Check that `model` can be fine-tuned and validated on `data`; return the data set.

    Which images have a fault is found when all are read (`search.config.inputs.data_contents`).

    Raises:
        ConfigError: the data set cannot be read, has no training or validation images, another number of classes than
            the model, or images of other channels.
    """
    if family_of(model) in ("world", "yoloe"):
        raise ConfigError(
            f"{type(model).__name__} is trained with a text for every class, which is not done here",
            where="model",
            expected="a network without texts; this one can be pruned without a search",
            next_command="paretoprune prune model=FILE.pt ratio=0.2",
        )
    dataset = open_dataset(data, LabelRules.of(model))
    classes = len(getattr(model, "names", ()) or ())
    is_listed = dataset.rules.task != "classify"
    if is_listed and classes and len(dataset.names) != classes and not dataset.rules.single_cls:
        raise ConfigError(
            f"the model has {classes} classes, {data} has {len(dataset.names)}",
            where="data: names",
            expected="the data set that the model was trained on",
        )
    channels = input_channels(model)
    if channels != dataset.channels:
        raise ConfigError(
            f"the model takes images of {channels} channels, {data} has images of {dataset.channels}",
            where="data: channels",
            expected=f"channels: {channels} in the data YAML, or a model that was trained on these data",
        )
    for split, kind in (("val", "validation"), ("train", "training")):
        if not dataset.files(split):
            raise ConfigError(f"{data} has no {kind} images", where=f"data: {split}", expected="at least one image")
    return dataset
