"""study.yaml as frozen models: unknown keys refused, every fault reported at once with its line.

Precedence: command-line `key=value`, then YAML, then the defaults written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from objectives.choice import Bound
from objectives.objective import objectives_named
from search import yaml_source
from search.faults import faults_error

Sampler = Literal["auto", "tpe", "nsga2", "random", "qmc", "gp"]
_STRIDE = 32
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SearchSpec(_Section):
    """How long and by what to search. `trial_minutes` null: ten times the median trial, at least ten minutes."""

    engine: Literal["optuna", "ray"] = "optuna"
    sampler: Sampler = "auto"
    trials: int = Field(default=150, ge=1)
    hours: float | None = Field(default=None, gt=0)
    workers: int = Field(default=1, ge=1, le=256)
    seed: int = Field(default=0, ge=0, lt=2**32)
    trial_minutes: float | None = Field(default=None, gt=0)


class SpaceSpec(_Section):
    """What may be varied. `ratio` bounds the share of channels removed; imgsz null: the study's imgsz only."""

    ratio: tuple[float, float] = (0.0, 0.8)
    round_to: int = Field(default=8, ge=1, le=256)
    groups: str | tuple[str, ...] = "auto"
    ignore: tuple[str, ...] = ()
    importance: str = "l2"
    depth: bool = False
    imgsz: tuple[int, ...] | None = None
    precision: tuple[Literal["fp32", "fp16", "int8"], ...] = ("fp32",)

    @field_validator("ratio")
    @classmethod
    def _bounds(cls, value: tuple[float, float]) -> tuple[float, float]:
        low, high = value
        if not (0.0 <= low < 1.0 and 0.0 <= high < 1.0):
            raise ValueError("ratios are shares of channels to remove, 0 to below 1")
        if low >= high:
            raise ValueError("the lower bound must be below the upper bound")
        return value

    @field_validator("groups", mode="plain")
    @classmethod
    def _groups(cls, value: object) -> str | tuple[str, ...]:
        if value in ("auto", "each"):
            return str(value)
        if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ValueError("expected auto, each, or a list of group name patterns such as ['model.4.*']")

    @field_validator("imgsz", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, int) else value

    @field_validator("imgsz")
    @classmethod
    def _sizes(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is None:
            return None
        if not value or len(set(value)) != len(value):
            raise ValueError("expected different sizes, at least one")
        for size in value:
            _check_size(size)
        return value

    @field_validator("precision")
    @classmethod
    def _precision(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value != ("fp32",):
            raise ValueError(
                "only [fp32] can be searched in this version; reduced precision is made on export: quantize=8"
            )
        return value


class RecoverSpec(BaseModel):
    """The short fine-tune after pruning. Keys that are not listed go to YOLO.train as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")
    epochs: int = Field(default=3, ge=0)
    fraction: float = Field(default=0.2, gt=0, le=1)
    distill: bool = True
    batch: int = Field(default=16, ge=1)

    @property
    def train(self) -> dict[str, Any]:
        """The further keys of YOLO.train."""
        return dict(self.model_extra or {})


class LatencySpec(_Section):
    """What is timed. `seconds`: the most that one candidate's comparison with the base may take."""

    runtime: Literal["onnxruntime", "torch", "openvino"] = "onnxruntime"
    device: str = "cpu"
    threads: int = Field(default=1, ge=1)
    batch: int = Field(default=1, ge=1)
    seconds: float = Field(default=6.0, gt=0)

    @field_validator("device", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value


class KeepSpec(_Section):
    """Which trials keep their weights on disk, and the most they may fill."""

    weights: Literal["all", "front", "none"] = "front"
    max_gb: float = Field(default=20.0, gt=0)


class StudySpec(_Section):
    """One study. See DESIGN.md, study.yaml, for the words."""

    model: str
    data: str
    imgsz: int = 640
    device: str = "auto"
    name: str | None = None
    project: str = "runs/prune"
    storage: str | None = None
    search: SearchSpec = SearchSpec()
    space: SpaceSpec = SpaceSpec()
    objectives: tuple[str, ...] = ("map50_95", "latency_ms", "params_m")
    constraints: dict[str, str] = {}
    budgets: dict[str, dict[str, float]] = {}
    recover: RecoverSpec = RecoverSpec()
    latency: LatencySpec = LatencySpec()
    keep: KeepSpec = KeepSpec()

    @field_validator("model")
    @classmethod
    def _model_exists(cls, value: str, info: ValidationInfo) -> str:
        if _paths_matter(info) and not Path(value).is_file():
            raise ValueError(f"no such file: {value}; expected an Ultralytics checkpoint (.pt)")
        return value

    @field_validator("data")
    @classmethod
    def _data_exists(cls, value: str, info: ValidationInfo) -> str:
        if _paths_matter(info) and not Path(value).exists():
            raise ValueError(f"no such file: {value}; expected a dataset YAML (or an image folder to classify)")
        return value

    @field_validator("imgsz")
    @classmethod
    def _size(cls, value: int) -> int:
        return _check_size(value)

    @field_validator("device", mode="before")
    @classmethod
    def _device(cls, value: object) -> object:
        return str(value) if isinstance(value, int) else value

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str | None) -> str | None:
        if value is not None and not _NAME.match(value):
            raise ValueError("a name is a folder: letters, digits, dot, dash and underscore")
        return value

    @field_validator("objectives")
    @classmethod
    def _known_objectives(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        objectives_named(value)
        return value

    @field_validator("constraints", mode="before")
    @classmethod
    def _constraint_text(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {name: _constraint(str(name), limit) for name, limit in value.items()}

    @field_validator("budgets")
    @classmethod
    def _known_budgets(cls, value: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for name, limits in value.items():
            if not _NAME.match(name):
                raise ValueError(f"{name}: a budget's name is a folder: letters, digits, dot, dash, underscore")
            if not limits:
                raise ValueError(f"{name} limits nothing; expected for example {{latency_ms: 5}}")
            for figure, limit in limits.items():
                Bound.budget(figure, limit)
        return value

    @property
    def sizes(self) -> tuple[int, ...]:
        """Input sizes that are searched."""
        return self.space.imgsz or (self.imgsz,)

    @property
    def run_name(self) -> str:
        """Name of the run folder: `name`, else the checkpoint's."""
        return self.name or Path(self.model).stem

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The constraints."""
        return tuple(Bound.parse(name + text) for name, text in self.constraints.items())

    def budget(self, name: str) -> tuple[Bound, ...]:
        """The limits of a named budget."""
        return tuple(Bound.budget(figure, limit) for figure, limit in self.budgets[name].items())

    def notes(self) -> tuple[str, ...]:
        """Settings that are accepted and have no effect in this version."""
        if self.space.depth:
            return ("space.depth: whole blocks are not removed in this version; only channels are",)
        return ()

    def resolved(self) -> dict[str, Any]:
        """Plain data with every default filled in: what args.yaml holds."""
        return {**self.model_dump(mode="json"), "name": self.run_name}


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
    data = source.data
    if study is not None:
        data = _absolute(data, study.resolve().parent)
        data.pop("fingerprint", None)
        if data.get("name") is None and "name" not in given and study.name != "args.yaml":
            given["name"] = _name_of(study)
    merged = yaml_source.merge(data, _absolute(given, Path.cwd()))
    try:
        return StudySpec.model_validate(merged, context={"check_paths": check_paths})
    except ValidationError as error:
        raise faults_error(error, source, given, StudySpec) from error


def dump_yaml(data: Mapping[str, Any]) -> str:
    """YAML text in the order given."""
    return str(yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True))


def _name_of(study: Path) -> str | None:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", study.stem).strip("-.")
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", study.resolve().parent.name).strip("-.")
    return (folder if stem == "study" else stem) or None


def _absolute(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    result = dict(data)
    for key in ("model", "data"):
        value = result.get(key)
        if isinstance(value, str | Path):
            result[key] = _locate(str(value), folder, bundled=key == "data")
    return result


def _locate(value: str, folder: Path, *, bundled: bool) -> str:
    path = Path(value).expanduser()
    path = path if path.is_absolute() else folder / path
    if bundled and not path.exists() and "/" not in value:
        shipped = _shipped_datasets() / value
        path = shipped if shipped.is_file() else path
    return str(path.resolve())


def _shipped_datasets() -> Path:
    """Folder of the dataset YAMLs that come with ultralytics, found without importing it."""
    from importlib.util import find_spec

    found = find_spec("ultralytics")
    origin = found.origin if found is not None and found.origin else "."
    return Path(origin).parent / "cfg" / "datasets"


def _paths_matter(info: ValidationInfo) -> bool:
    return bool((info.context or {}).get("check_paths", True))


def _check_size(size: int) -> int:
    if size < _STRIDE or size % _STRIDE:
        raise ValueError(f"{size} is not a multiple of {_STRIDE}, the stride of the models")
    return size


def _constraint(name: str, limit: object) -> str:
    """`"<=8"` or a bare number, which bounds the better side. ValueError (BoundError) says how to write it."""
    text = str(limit).strip()
    bound = Bound.parse(name + text) if text[:1] in "<>=" else Bound.budget(name, _number(name, limit))
    return f"{bound.op}{bound.limit:g}"


def _number(name: str, limit: object) -> float:
    try:
        return float(str(limit))
    except ValueError:
        raise ValueError(f'{name}: {limit!r} is not a limit; expected for example "<=8"') from None
