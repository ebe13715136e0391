"""study.yaml as frozen models: unknown keys are refused, all faults are reported at once with their lines.

Precedence: command-line `key=value`, then YAML, then the defaults written here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from objectives.choice import Bound
from objectives.image_size import Size, sides
from objectives.objective import DEPLOYED, MAIN_FIGURES, NAMED_ONLY, objectives_named, register
from search.config import yaml_source
from search.config.baseline_names import CHEAP, row_fault, row_text, siblings_located
from search.config.bases import base_names, check_alike, models_fault
from search.config.budgets import FOLDER_NAME, bounds_of, budget_limits, without_replaced
from search.config.inputs.checkpoint_facts import checkpoint_facts, checkpoint_network
from search.config.inputs.paths import absolute, exists, expanded, is_file, with_program
from search.config.inputs.ultralytics_config import shipped_settings
from search.config.inputs.user_code import UserReference, located, with_task
from search.config.inputs.user_modules import declare, name_fault
from search.config.precision_support import precision_fault, precisions_of, rounding_of
from search.config.sections import (
    MAX_SIZE,
    STRIDE,
    FigureSpec,
    ImageSize,
    KeepSpec,
    LatencySpec,
    NotifySpec,
    RecoverSpec,
    SearchSpec,
    Section,
    SpaceSpec,
    check_size,
    sampler_fault,
    tracker_names,
)
from search.config.storage_url import shown, storage_fault
from search.config.targets.applying import with_target, words_of_run
from search.config.targets.limits import Family, family_of_blocks
from search.config.targets.pack import SUFFIXES, target_fault
from search.config.targets.record import TargetRecord
from search.config.validation_errors import faults_error

_COSTS = ("latency_ms", "params_m")
STUCK_MINUTES = 30.0
"""Ultralytics' trainers and validators give a sign of life at every batch."""
MAX_NAME, MAX_PATH = 255, 3000
"""Bytes of a file's name, and of a path that leaves room for the files of a run: what Linux can hold."""


class StudySpec(Section):
    """One study. DESIGN.md, study.yaml, explains the keys.

    `models`, in YAML `model`: the checkpoint to prune, or several that share one front; the first is the reference of
    all latencies.
    `figures`: figures of a user's own task, or further ones that a `command:` prints, by name; known in every process
    that has the study. `baselines`: baselines
    measured at the end (`search.evaluate.baselines`); null: the cheap ones. `trust`: sha256 of a checkpoint that the
    restricted loader refuses; it is unpickled once (`search.prepare.trusted_checkpoint`). `modules`: a Python file with
    classes of the network that are not Ultralytics' own (`search.config.inputs.user_modules`). `track`: where the
    search is logged besides (`search.callbacks.trackers`). `target`: in YAML the name of a pack, or its file; here what
    became of it (`search.config.targets`).
    """

    models: tuple[str, ...] = Field(alias="model")
    data: str
    imgsz: ImageSize = 640
    device: str = "auto"
    name: str | None = None
    project: str = "runs/prune"
    storage: str | None = Field(default=None, repr=False)
    trust: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    modules: str | None = None
    target: TargetRecord | None = None
    search: SearchSpec = SearchSpec()
    space: SpaceSpec = SpaceSpec()
    figures: dict[str, FigureSpec] = Field(default_factory=dict)
    objectives: tuple[str, ...] = Field(default=(MAIN_FIGURES["detect"], *_COSTS), validate_default=True)
    constraints: dict[str, str] = Field(default_factory=dict)
    latency: LatencySpec = LatencySpec()
    budgets: dict[str, dict[str, float | str]] = Field(default_factory=dict)
    recover: RecoverSpec = RecoverSpec()
    keep: KeepSpec = KeepSpec()
    baselines: tuple[str, ...] | None = None
    notify: NotifySpec = NotifySpec()
    track: tuple[str, ...] = ()

    @field_validator("models", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        if not isinstance(value, str | list | tuple):
            raise ValueError(f"input should be a valid string, found {yaml_source.clipped(value)}")
        return (value,) if isinstance(value, str) else value

    @field_validator("models")
    @classmethod
    def _models_exist(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if (fault := models_fault(value)) is not None:
            raise ValueError(fault)
        for file in map(_file_of, value) if _paths_matter(info) else ():
            if not is_file(file):
                what = "not a regular file" if exists(file) else "no such file"
                raise ValueError(f"{what}: {file}; expected an Ultralytics checkpoint (.pt), or module.py:function")
        return value

    @field_validator("data")
    @classmethod
    def _data_exists(cls, value: str, info: ValidationInfo) -> str:
        if _paths_matter(info) and not exists(_file_of(value)):
            raise ValueError(f"no such file: {value}; expected a dataset YAML (or an image folder to classify)")
        return value

    @field_validator("modules")
    @classmethod
    def _modules_exist(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and _paths_matter(info) and not (value.endswith(".py") and is_file(Path(value))):
            raise ValueError(f"no such file: {value}; expected a Python file with the model's own classes")
        if value is not None and _paths_matter(info) and (fault := name_fault(Path(value))) is not None:
            raise ValueError(f"{fault}; expected a name such as myblocks.py")
        return value

    @field_validator("target", mode="before")
    @classmethod
    def _a_target(cls, value: object, info: ValidationInfo) -> object:
        may_be_recorded = (info.context or {}).get("is_run", True) and isinstance(value, Mapping)
        if value is None or isinstance(value, TargetRecord) or may_be_recorded:
            return value
        if (fault := target_fault(value)) is not None:
            raise ValueError(fault)
        return value

    @field_validator("imgsz")
    @classmethod
    def _size(cls, value: Size, info: ValidationInfo) -> Size:
        own = _is_own(info) and max(sides(value)) <= MAX_SIZE
        return value if own else check_size(value)

    @field_validator("device", mode="before")
    @classmethod
    def _device(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and not FOLDER_NAME.fullmatch(value):
            raise ValueError("a name is a folder: letters, digits, dot, dash and underscore, at most 100")
        return value

    @field_validator("latency")
    @classmethod
    def _runs_the_precisions(cls, value: LatencySpec, info: ValidationInfo) -> LatencySpec:
        space, own = info.data.get("space"), _is_own(info)
        fault = precision_fault(space.precision, value.runtime, value.device, own=own) if space is not None else None
        if fault is not None:
            raise ValueError(fault)
        return value

    @field_validator("project")
    @classmethod
    def _a_folder(cls, value: str) -> str:
        value = str(expanded(Path(value))) if value.startswith("~") else value
        longest = max(len(os.fsencode(part)) for part in value.split("/"))
        if longest > MAX_NAME or len(os.fsencode(value)) > MAX_PATH or "\0" in value:
            raise ValueError(f"not a folder's path: one part of it has at most {MAX_NAME} bytes, all {MAX_PATH}")
        return value

    @field_validator("storage")
    @classmethod
    def _a_storage(cls, value: str | None) -> str | None:
        if value is not None and (fault := storage_fault(value)) is not None:
            raise ValueError(fault)
        return value

    @field_validator("figures")
    @classmethod
    def _registered(cls, value: dict[str, FigureSpec], info: ValidationInfo) -> dict[str, FigureSpec]:
        for name, said in value.items():
            if not name.isidentifier():
                raise ValueError(f"{name!r} cannot be a figure: letters, digits and underscores, no digit first")
            _register(name, said, info.data.get("data"))
        return value

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        for name, said in self.figures.items():  # in a process that did not read the study but was handed it
            _register(name, said, self.data)

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        objectives_named(value)
        return value

    @field_validator("objectives")
    @classmethod
    def _suit_the_sampler(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        search, space = info.data.get("search"), info.data.get("space")
        bases = len(info.data.get("models", ()))
        fault = None if search is None or space is None else sampler_fault(search, space, len(value), bases)
        if fault is not None:
            raise ValueError(fault)
        return value

    @field_validator("constraints", mode="before")
    @classmethod
    def _constraint_text(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {name: _constraint(str(name), limit) for name, limit in value.items()}

    @field_validator("budgets", mode="before")
    @classmethod
    def _known_budgets(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, Mapping):
            return value
        latency = info.data.get("latency", LatencySpec())
        return {name: budget_limits(str(name), limits, latency.batch) for name, limits in value.items()}

    @field_validator("baselines", mode="before")
    @classmethod
    def _rows(cls, value: object) -> object:
        if value is None:
            return None
        rows = [value] if isinstance(value, str | Mapping) else value
        if not isinstance(rows, list | tuple):
            raise ValueError("expected a list of baselines, such as [lower_size, uniform]")
        texts = [row_text(row) for row in rows]
        if (fault := next(filter(None, map(row_fault, texts)), None)) is not None:
            raise ValueError(fault)
        return texts

    @field_validator("track", mode="before")
    @classmethod
    def _trackers(cls, value: object) -> object:
        return () if value is None else tracker_names(value)

    @property
    def model(self) -> str:
        """The first base: its latency is the reference of all others."""
        return self.models[0]

    @property
    def base_names(self) -> tuple[str, ...]:
        """Short names of the bases, for tables and sentences."""
        return base_names(self.models)

    def of_base(self, number: int) -> StudySpec:
        """Return the study of one of its bases alone, under the same name."""
        if len(self.models) == 1:
            return self
        return self.model_copy(update={"models": (self.models[number],), "name": self.run_name})

    @property
    def baseline_rows(self) -> tuple[str, ...]:
        """Names of the baselines to measure at the end of a search; by default none for a user's own task.

        Nor by default the base in INT8 where the runtime has none; where it is the study's own, it has.
        """
        if self.baselines is not None:
            return self.baselines
        if UserReference.parse(self.data) is not None:
            return ()
        has_int8 = "int8" in precisions_of(self.latency.runtime, self.latency.device)
        return tuple(name for name in CHEAP if name != "int8" or has_int8)

    @property
    def stuck_s(self) -> float:
        """Seconds without a heartbeat after which work is given up; a user's own task need not send any."""
        said = self.search.stuck_minutes
        if said is None:
            said = STUCK_MINUTES if UserReference.parse(self.data) is None else float("inf")
        return 60 * said

    @property
    def precision(self) -> str:
        """The study's own precision, the first of those that it searches: what the base is timed and shipped in."""
        return self.space.precision[0]

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Input sizes to search."""
        return self.space.imgsz or (self.imgsz,)

    @property
    def searched_space(self) -> SpaceSpec:
        """The space with `groups: auto` resolved.

        A sampler that draws ratios gets one per stage: sixty random ratios are far from any good model. The guided
        sampler allocates, so every group has its own.
        """
        free = self.search.sampler == "auto" and self.space.groups == "auto"
        return self.space.model_copy(update={"groups": "each"}) if free else self.space

    @property
    def run_name(self) -> str:
        """Name of the run folder: `name`, else the checkpoint's, reduced to valid characters."""
        return self.name or folder_name(Path(self.model).stem) or "study"

    @property
    def named_figures(self) -> tuple[str, ...]:
        """Figures that the objectives, constraints and budgets name, each once."""
        return tuple(dict.fromkeys((*self.objectives, *self.constraints, *self.budget_figures)))

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The constraints as bounds."""
        return tuple(Bound.parse(name + text) for name, text in self.constraints.items())

    @property
    def budget_figures(self) -> tuple[str, ...]:
        """Names of the figures that the budgets limit, each once."""
        return tuple(dict.fromkeys(figure for limits in self.budgets.values() for figure in limits))

    @property
    def deployed(self) -> tuple[str, ...]:
        """Costs of the deployed network beside its latency that the study names: they are measured, others are not."""
        return tuple(name for name in DEPLOYED if self.names_ours(name))

    def names_ours(self, figure: str) -> bool:
        """Return whether the study names this figure as it is measured here: a task of its own may declare another."""
        return figure in self.named_figures and figure not in self.figures

    def budget(self, name: str, base: Mapping[str, float]) -> tuple[Bound, ...]:
        """Return the limits of a named budget; shares of figures that `base` lacks are left out."""
        return bounds_of(self.budgets[name], base)

    @property
    def without_secrets(self) -> StudySpec:
        """Return the study without passwords, for writing to disk and sending to other processes."""
        return self if self.storage is None else self.model_copy(update={"storage": shown(self.storage)})

    def displayed(self) -> dict[str, Any]:
        """Return what others may see of `resolved`: without the command of `notify`, which may hold a secret."""
        return {key: value for key, value in self.resolved().items() if key != "notify"}

    def resolved(self) -> dict[str, Any]:
        """Return plain data with every default filled in: the content of args.yaml, without the storage's password."""
        found = {**self.without_secrets.model_dump(mode="json", by_alias=True), "name": self.run_name}
        return {**found, "model": self.model} if len(self.models) == 1 else found


def load_spec(study: Path | None, overrides: Mapping[str, Any] | None = None, *, check_paths: bool = True) -> StudySpec:
    """Read a study file, a set of overrides, or both.

    Args:
        study: the YAML file; None when everything comes from `overrides`.
        overrides: dotted key -> value; paths in them are relative to the working folder, paths in the file to the file.
        check_paths: False reads a finished run whose model may have moved.

    Raises:
        ConfigError: every fault at once, each with its line.
    """
    source = yaml_source.Source({}, {}, "command line") if study is None else yaml_source.read(study)
    given = dict(overrides or {})
    for key, value in given.items():
        yaml_source.refuse_control(key, value)
    data, is_run = source.data, False
    if study is not None:
        data = _absolute(data, study.resolve().parent)
        is_run = data.pop("fingerprint", None) is not None  # args.yaml of a run
        if is_run:
            data, given = _as_meant_then(data), words_of_run(data, given)
        if data.get("name") is None and "name" not in given and study.name != "args.yaml":
            given["name"] = _name_of(study)
    merged = with_task(yaml_source.merge(without_replaced(data, given), _absolute(given, Path.cwd())))
    if check_paths:
        merged = {**_said_by_checkpoint(merged), **merged}
    merged = with_target(merged, given, lambda: _networks(merged) if check_paths else (), _usual_size())
    merged = _rounded(merged)
    try:
        spec = StudySpec.model_validate(merged, context={"check_paths": check_paths, "is_run": is_run})
    except ValidationError as error:
        raise faults_error(error, source, given, StudySpec) from error
    if check_paths:
        check_alike(spec.models)
    declare(spec.modules)
    return spec


def _said_by_checkpoint(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return defaults that depend on the checkpoint: the main accuracy of its task, its training input size."""
    own = data.get("figures")
    if UserReference.parse(data.get("model")) is not None:
        return {"objectives": [next(iter(own)), *_COSTS]} if isinstance(own, Mapping) and own else {}
    model = data.get("model")
    facts = checkpoint_facts(Path(str(model[0] if isinstance(model, list | tuple) and model else model)))
    found: dict[str, Any] = {}
    if facts.task is not None and facts.task in MAIN_FIGURES:
        found["objectives"] = [MAIN_FIGURES[facts.task], *_COSTS]
    if facts.imgsz is not None and not any(side % STRIDE for side in sides(facts.imgsz)):
        found["imgsz"] = facts.imgsz
    return found


def _networks(data: Mapping[str, Any]) -> Iterator[tuple[str, Family, str | None]]:
    """Yield name, family and task of every base; of a network of the user's own no task."""
    models = data.get("model")
    for model in models if isinstance(models, list | tuple) else [models]:
        path = Path(str(model))
        is_own = UserReference.parse(model) is not None
        task, blocks = (None, frozenset[str]()) if is_own else checkpoint_network(path)
        yield path.name, family_of_blocks(blocks), task


def _usual_size() -> int:
    return int(StudySpec.model_fields["imgsz"].default)


def _rounded(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the study with `space.round_to: auto` as a number; what is not understood is left to the validation."""
    space, latency = data.get("space"), data.get("latency")
    if not isinstance(space, Mapping) or space.get("round_to") != "auto":
        return dict(data)
    runtime = latency.get("runtime") if isinstance(latency, Mapping) else None
    precisions = space.get("precision")
    named = [precisions] if isinstance(precisions, str) else precisions if isinstance(precisions, list | tuple) else []
    number = rounding_of(str(runtime or LatencySpec().runtime), [str(name) for name in named])
    return {**data, "space": {**space, "round_to": number}}


def with_defaults(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Add the values of newer keys to a resolved study; return it unchanged if it cannot be parsed any more."""
    try:
        return StudySpec.model_validate(_as_meant_then(resolved), context={"check_paths": False}).resolved()
    except ValidationError:
        return dict(resolved)


def _as_meant_then(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved study with what a key that it lacks stood for when it was written, where the default differs.

    Before there was `recover.spend`, every trial had the same epochs, before `search.promote` none went on, and before
    `recover.reconstruct` no layer was solved for.
    """
    then: dict[str, dict[str, Any]] = {
        "recover": {"spend": "equal", "reconstruct": False},
        "search": {"promote": False},
    }
    given = {name: resolved.get(name, {}) for name in then}
    return {**resolved, **{name: {**then[name], **one} for name, one in given.items() if isinstance(one, Mapping)}}


def _name_of(study: Path) -> str | None:
    stem, folder = folder_name(study.stem), folder_name(study.resolve().parent.name)
    return (folder if stem == "study" else stem) or None


def folder_name(text: str) -> str:
    """Reduce a text to valid characters of a folder name; may be ""."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100]


def _absolute(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    result = dict(data)
    for key in ("model", "data", "task", "modules"):
        value = result.get(key)
        if key == "model" and isinstance(value, list | tuple):
            result[key] = [_absolute({key: one}, folder)[key] for one in value]
        if not isinstance(value, str | Path):
            continue
        if UserReference.parse(value) is not None:
            result[key] = located(str(value), folder)
        elif key != "task":
            result[key] = _locate(str(value), folder, bundled=key == "data")
    if str(result.get("target")).endswith(SUFFIXES):
        result["target"] = str(absolute(Path(str(result["target"])), folder))
    if result.get("baselines") is not None:
        result["baselines"] = siblings_located(result["baselines"], folder)
    if isinstance(result.get("latency"), Mapping):
        result["latency"] = with_program(result["latency"], "runtime", folder)
    return with_program(result, "latency.runtime", folder)


def _locate(value: str, folder: Path, *, bundled: bool) -> str:
    path = absolute(Path(value), folder)
    if bundled and not exists(path) and "/" not in value:
        shipped = shipped_settings() / "datasets" / value
        path = shipped if is_file(shipped) else path
    return str(path)


def _file_of(value: str) -> Path:
    """Return the file that must exist: for a user's own model or task the one before the colon."""
    own = UserReference.parse(value)
    return Path(value) if own is None else own.file


def _register(name: str, said: FigureSpec, data: object) -> None:
    """Register a figure that the study declares: one of the user's own task, or a cost that a `command:` measures."""
    is_own = UserReference.parse(data) is not None
    register(said.objective(name, is_cost=not is_own), instead_of=NAMED_ONLY if is_own else ())


def _is_own(info: ValidationInfo) -> bool:
    """Return whether the model is the user's own network; False where it has a fault."""
    return UserReference.parse(next(iter(info.data.get("models", ())), None)) is not None


def _paths_matter(info: ValidationInfo) -> bool:
    return bool((info.context or {}).get("check_paths", True))


def _constraint(name: str, limit: object) -> str:
    """Parse `"<=8"` or a bare number, which bounds the good side. Raises ValueError (BoundError) with the syntax."""
    text = str(limit).strip()
    bound = Bound.parse(name + text) if text[:1] in "<>=" else Bound.budget(name, _number(name, limit))
    return f"{bound.op}{bound.limit:g}"


def _number(name: str, limit: object) -> float:
    try:
        return float(str(limit))
    except ValueError:
        raise ValueError(f'{name}: {limit!r} is not a limit; expected for example "<=8"') from None
