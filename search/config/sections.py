"""The sections of study.yaml; `spec.py` assembles them."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from objectives.errors import LatencyError
from objectives.image_size import Size, sides, size_of, written
from objectives.objective import Objective
from objectives.runtimes.names import SUFFIXES, check_runtime, is_command
from search.config.inputs.ultralytics_config import fault_of
from search.config.storage_url import shown
from search.config.yaml_source import clipped
from search.errors import near_miss

Sampler = Literal["auto", "tpe", "nsga2", "random", "qmc", "gp", "cmaes"]
STRIDE = 32
_ADDRESS = re.compile(r"^(ray://)?[A-Za-z0-9._-]+:[0-9]+$")


MAX_SIZE = 16_384
"""Largest side of an input image in pixels."""


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {str(value).lower()}")
    return value


def image_size(value: object) -> Size:
    """Parse 640, [384, 640], `384x640` or `384,640`, height first. Raises ValueError."""
    _no_truth_value(value)
    given: object = value
    if isinstance(value, str):
        words = [word.strip() for word in value.split(",")]
        given = [int(word) for word in words] if all(word.isdecimal() for word in words) else value.strip()
    if isinstance(given, list | tuple) and len(given) == 1:
        given = given[0]
    found = size_of(int(given) if isinstance(given, float) and given.is_integer() else given)
    if found is None:
        raise ValueError(
            f"expected one size, 640 or [height, width], found {clipped(value)}; several to search are "
            f"space.imgsz: [640, 512], or [[384, 640], [320, 512]]"
        )
    return found


ImageSize = Annotated[Size, BeforeValidator(image_size)]
"""An input size."""
Whole = Annotated[int, BeforeValidator(_no_truth_value)]
"""A whole number; `true`, which Python takes for 1, is none."""
Real = Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_no_truth_value)]
"""A finite number."""
_YEARS_H = 24 * 366 * 10
"""Hours of ten years, the longest time that a study may name."""
_YEARS_M = 60 * _YEARS_H
_YEARS_S = 60 * _YEARS_M


class Section(BaseModel):
    """Base of all sections: frozen; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ResourcesSpec(Section):
    """Resources of one trial on a Ray cluster. `cpu` null: 1, or this machine's cores over the concurrent trials if the
    cluster is this machine. `gpu` null: as many as `device` names; a fraction lets trials share one.
    """

    cpu: Real | None = Field(default=None, gt=0, le=100_000)
    gpu: Real | None = Field(default=None, ge=0, le=100_000)

    @field_validator("gpu")
    @classmethod
    def _whole_above_one(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"{value:g} GPUs cannot be had; expected a fraction below 1, or whole ones")
        return value


class SearchSpec(Section):
    """Sampler and limits of the search. `trial_minutes` null: ten times the longest trial that was completed, at least
    ten minutes.

    `stuck_minutes`: a trial without a heartbeat for this long is given up; null: 30, and never for a user's own task,
    which need not send any.

    `until`: local time of the session's deadline, the next one from its start. `patience`: trials within which the
    hypervolume must grow by 0.1 %; null, the default: off, since it may plateau long before it improves again.
    `promote`: with `auto`, networks of the front are trained further where that is worth more than a new candidate.
    `confirm`: number of seeds with which the picks are trained at the end, including the search's own.

    Only with `engine: ray`: `address` of the cluster (auto, ray://HOST:10001; null: a local Ray), `resources` of one
    trial, and `artefacts`: a path or URI that every node can write, null for the run's own folder.
    """

    engine: Literal["optuna", "ray"] = "optuna"
    address: str | None = None
    resources: ResourcesSpec = ResourcesSpec()
    artefacts: str | None = None
    sampler: Sampler = "auto"
    trials: Whole = Field(default=150, ge=1, le=1_000_000)
    hours: Real | None = Field(default=None, gt=0, le=_YEARS_H)
    until: str | None = None
    patience: Whole | None = Field(default=None, ge=1, le=1_000_000)
    promote: bool = True
    confirm: Whole = Field(default=1, ge=1, le=20)
    workers: Whole = Field(default=1, ge=1, le=256)
    seed: Whole = Field(default=0, ge=0, lt=2**32)
    trial_minutes: Real | None = Field(default=None, gt=0, le=_YEARS_M)
    stuck_minutes: Real | None = Field(default=None, gt=0, le=_YEARS_M)

    @field_validator("address")
    @classmethod
    def _cluster(cls, value: str | None) -> str | None:
        if value not in (None, "auto") and not _ADDRESS.match(str(value)):
            raise ValueError(f"{value!r} is no Ray address; expected auto, ray://HOST:10001, HOST:6379, or null")
        return value

    @field_validator("artefacts")
    @classmethod
    def _without_a_secret(cls, value: str | None) -> str | None:
        if value is not None and shown(value) != value:
            raise ValueError("a secret does not belong into a study; expected s3://BUCKET/FOLDER, the rest in the node")
        return value

    @field_validator("until", mode="before")
    @classmethod
    def _time_of_day(cls, value: object) -> object:
        if isinstance(value, int) and 60 <= value < 24 * 60:  # YAML 1.1 reads an unquoted 19:30 to the base of 60
            value = f"{value // 60:02d}:{value % 60:02d}"
        if value is None:
            return None
        hours, minutes = clock_time(str(value))
        return f"{hours:02d}:{minutes:02d}"


class SpaceSpec(Section):
    """The search space.

    `ratio` bounds the share of channels removed; `depth`: whole residual blocks may be removed; `levels`: so may
    detection levels, those with less than 1 % of the objects' assignments or those named; imgsz null: the study's,
    else sizes to choose from, each a side or [height, width].
    `round_to` may be `auto` in a study file: a number that follows from the runtime and the precisions
    (`precision_support.rounding_of`). The first of `precision` is the study's own: in it the base is timed, weighed and
    validated, and latency is predicted.
    """

    ratio: tuple[Real, Real] = (0.0, 0.8)
    round_to: Whole = Field(default=8, ge=1, le=256)
    groups: str | tuple[str, ...] = "auto"
    ignore: tuple[str, ...] = ()
    importance: str = "l2"
    depth: bool = False
    levels: bool | tuple[str, ...] = False
    imgsz: tuple[ImageSize, ...] | None = None
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

    @field_validator("groups", mode="before")
    @classmethod
    def _groups(cls, value: object) -> str | tuple[str, ...]:
        if value in ("auto", "each"):
            return str(value)
        if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ValueError("expected auto, each, or a list of group name patterns such as ['model.4.*']")

    @field_validator("levels", mode="before")
    @classmethod
    def _levels(cls, value: object) -> bool | tuple[str, ...]:
        if isinstance(value, bool):
            return value
        if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ValueError("expected true, false, or a list of detection levels such as [P5]")

    @field_validator("imgsz", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        if isinstance(value, str):
            return [word.strip() for word in value.split(",")]
        return value if value is None or isinstance(value, list | tuple) else [value]

    @field_validator("imgsz")
    @classmethod
    def _sizes(cls, value: tuple[Size, ...] | None) -> tuple[Size, ...] | None:
        if value is None:
            return None
        if not value or len(set(value)) != len(value):
            raise ValueError("expected different sizes, at least one")
        for size in value:
            check_size(size)
        return value

    @field_validator("precision")
    @classmethod
    def _precision(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("expected different precisions, at least one, such as [fp32, int8]")
        return value


class RecoverSpec(BaseModel):
    """The short fine-tune after pruning. Unknown keys are passed to YOLO.train.

    `spend`: whether a trial gets the epochs that it needs, from none to four times `epochs`, or all get the same.
    `reconstruct`: the weights of each layer are solved for, so that it gives what it gives in the base, before that.
    `slimming`: weight of the L1 penalty on batch-norm scales (`pruning.recovery.finetune.Recovery`).
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    epochs: Whole = Field(default=3, ge=0, le=100_000)
    spend: Literal["need", "equal"] = "need"
    reconstruct: bool = True
    fraction: Real = Field(default=0.2, gt=0, le=1)
    distill: bool = True
    batch: Whole = Field(default=16, ge=1, le=65_536)
    slimming: Real = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _known_keys(self) -> RecoverSpec:
        own = tuple(type(self).model_fields)
        faults = [fault for key in self.train if (fault := fault_of(key, own)) is not None]
        faults += [
            f"{key} is {value}; expected a finite number"
            for key, value in self.train.items()
            if isinstance(value, float) and not math.isfinite(value)
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def train(self) -> dict[str, Any]:
        """Additional keys of YOLO.train."""
        return dict(self.model_extra or {})


class LatencySpec(Section):
    """Latency measurement: `runtime` is a name of `objectives.runtimes.names`, or `command:PROGRAM`.

    `seconds`: limit of one candidate's comparison with the base; 60 for a command by default. `timeout_s`: limit of one
    call of a command. `batch`: images of one inference; a latency is that of the whole batch. `conf`, `iou`: thresholds
    of non-maximum suppression where `e2e_ms` is measured; Ultralytics' own of `predict`.
    """

    runtime: str = "onnxruntime"
    device: str = "cpu"
    threads: Whole = Field(default=1, ge=1, le=1024)
    batch: Whole = Field(default=1, ge=1, le=65_536)
    seconds: Real = Field(default=6.0, gt=0, le=_YEARS_S)
    timeout_s: Real = Field(default=300.0, gt=0, le=_YEARS_S)
    conf: Real = Field(default=0.25, gt=0, lt=1)
    iou: Real = Field(default=0.7, gt=0, le=1)

    @property
    def together_s(self) -> float:
        """Seconds that each candidate may take where the front is timed together: thrice those of a trial."""
        return 3 * self.seconds

    @model_validator(mode="before")
    @classmethod
    def _seconds_of_a_command(cls, data: Any) -> Any:
        if isinstance(data, dict) and is_command(str(data.get("runtime", ""))):
            return {"seconds": 60.0, **data}
        return data

    @model_validator(mode="after")
    def _on_a_processor(self) -> LatencySpec:
        if self.runtime in SUFFIXES and self.device != "cpu":
            raise ValueError(f"{self.runtime} is timed on the CPU, found device: {self.device}")
        return self

    @field_validator("runtime")
    @classmethod
    def _known_runtime(cls, value: str) -> str:
        try:
            return check_runtime(value)
        except LatencyError as fault:
            raise ValueError(str(fault)) from fault

    @field_validator("device", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class FigureSpec(Section):
    """A figure of a user's own task, or one that a `command:` prints: its unit ("" for none, "fraction" for a share)
    and its direction. `cost`: it is what a model takes, as against how good it is; those of a command always are.
    """

    unit: str = ""
    direction: Literal["max", "min"]
    title: str | None = None
    cost: bool = False

    def objective(self, name: str, *, is_cost: bool = False) -> Objective:
        """Return the corresponding `Objective`."""
        return Objective(name, self.unit, self.direction, self.title or name, is_cost or self.cost)


class KeepSpec(Section):
    """Trials that keep their weights on disk, and their total size. front: including those that may still reach it."""

    weights: Literal["all", "front", "none"] = "front"
    max_gb: Real = Field(default=20.0, gt=0, le=1e9)


def sampler_fault(search: SearchSpec, space: SpaceSpec, objectives: int, bases: int = 1) -> str | None:
    """Return why the sampler cannot search this study, or None.

    CMA-ES samples a continuous space around one optimum.
    """
    if search.sampler != "cmaes":
        return None
    if objectives != 1:
        return (
            f"search.sampler: cmaes searches for one objective, found {objectives}; expected for example "
            'objectives: [map50_95] with constraints: {latency_ms: "<=5"}, or sampler: auto'
        )
    choices = {"space.depth": space.depth, "space.levels": bool(space.levels)}
    choices |= {"space.imgsz": len(space.imgsz or ()) > 1}
    choices["several bases"] = bases > 1
    choices["space.precision"] = len(space.precision) > 1
    named = next((name for name, chosen in choices.items() if chosen), None)
    return f"search.sampler: cmaes knows ratios only, not {named}; expected sampler: tpe" if named else None


TRACKERS = ("mlflow", "tensorboard", "jsonl")
"""Names in `track`; `search.callbacks.trackers` has what they stand for."""


def tracker_names(value: object) -> tuple[str, ...]:
    """Parse `mlflow,jsonl` or `[mlflow, jsonl]` to names of trackers, each once. Raises ValueError for another name."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected a list of {', '.join(TRACKERS)}")
    found = tuple(dict.fromkeys(name.strip() for name in names))
    for name in found:
        if name not in TRACKERS:
            near = near_miss(name, TRACKERS)
            hint = f"did you mean {near}? " if near else ""
            raise ValueError(f"no tracker {name!r}; {hint}known here: {', '.join(TRACKERS)}")
    return found


class NotifySpec(Section):
    """`command`: a shell line that receives the summary on its standard input when a search has ended."""

    command: str | None = None


def check_size(size: Size) -> Size:
    """Validate an input size. Raises ValueError."""
    if not all(STRIDE <= side <= MAX_SIZE and not side % STRIDE for side in sides(size)):
        raise ValueError(
            f"{written(size)} is not a multiple of {STRIDE}, the stride of the models, of at most {MAX_SIZE}"
        )
    return size


_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def clock_time(text: str) -> tuple[int, int]:
    """Parse `7:00` or `07:00` to (hours, minutes). Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f'{text!r} is no time of day; expected for example "07:00"')
    return int(match[1]), int(match[2])
