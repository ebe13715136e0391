"""Trials as frozen records, JSON both ways.

The life of a trial:

    waiting --ask--> running --measured--> complete
                        |
                        |--predicted to miss the front--> screened    (not fine-tuned)
                        |
                        |--crash, killed, stuck, out of memory--> running again, once (`failure_policy`)
                        |
                        |--that again, time-out, NaN, exception--> failed    (recorded, never run again)
                        |
                        `--Ctrl-C, kill, power cut--> stopped --resume--> running, same number, same candidate
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, NotRequired

from typing_extensions import TypedDict

from objectives.image_size import Size, size_of, written
from objectives.objective import Estimate


class TrialState(StrEnum):
    """State of a trial."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETE = "complete"
    SCREENED = "screened"
    FAILED = "failed"
    STOPPED = "stopped"


class FailureKind(StrEnum):
    """Kind of a trial's failure; `ERROR` is an exception whose text is in error.txt.

    `LOST`: the node or the worker of a cluster that ran it was lost, twice.
    """

    ERROR = "error"
    CRASH = "crash"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_FINITE = "not_finite"
    LOST = "lost"
    STUCK = "stuck"
    DISK = "disk"


class FigureCell(TypedDict):
    """A figure in JSON, with its 95 % interval; both ends are the value where it is exact."""

    value: float
    low: float
    high: float


class PromotionRow(TypedDict):
    """A promotion in JSON."""

    trial: int | None
    had: float
    epochs: float


class CandidateRow(TypedDict):
    """A candidate in JSON; `imgsz` is 640 or "384x640", `base` is left out of those of the study's first base."""

    ratios: dict[str, float]
    imgsz: int | str
    precision: str
    removed: list[str]
    base: NotRequired[int]
    promotion: NotRequired[PromotionRow]


@dataclass(frozen=True)
class Promotion:
    """A longer fine-tune, which goes on where a trial ended.

    Attributes:
        trial: number of the trial that is continued; None: from the base, for `had` and `epochs` together.
        had: epochs that it has had, in all.
        epochs: those to come.
    """

    trial: int | None
    had: float
    epochs: float

    @property
    def total(self) -> float:
        """Epochs in all, when it has ended."""
        return self.had + self.epochs


@dataclass(frozen=True)
class Candidate:
    """A point of the search space.

    Attributes:
        ratios: dimension name -> share of channels to remove, 0 to below 1.
        imgsz: input size in pixels: a side, or (height, width).
        precision: number format of the delivered model.
        removed: paths of the blocks to remove whole, in network order.
        base: place of its base in the study's `model`, from 0.
        promotion: the trial that it continues; None for a fine-tune of its own.
    """

    ratios: Mapping[str, float]
    imgsz: Size = 640
    precision: str = "fp32"
    removed: tuple[str, ...] = ()
    base: int = 0
    promotion: Promotion | None = None

    def promoted(self, promotion: Promotion | None) -> Candidate:
        """Return the same network with this promotion."""
        return replace(self, promotion=promotion)

    def from_base(self) -> Candidate:
        """Return the same network with as many epochs, that needs no other trial."""
        known = self.promotion
        return self if known is None else self.promoted(replace(known, trial=None))

    def to_json(self) -> CandidateRow:
        row: CandidateRow = {
            "ratios": dict(self.ratios),
            "imgsz": written(self.imgsz),
            "precision": self.precision,
            "removed": list(self.removed),
        }
        if self.base:  # of a study of one base nothing is said: its records and their digests are as ever
            row["base"] = self.base
        if self.promotion is not None:  # absent otherwise: digests of candidates stay as they were
            given = self.promotion
            row["promotion"] = {"trial": given.trial, "had": given.had, "epochs": given.epochs}
        return row

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Candidate:
        ratios = {str(name): float(value) for name, value in data["ratios"].items()}
        removed = tuple(map(str, data.get("removed", ())))  # absent in records from before blocks could go
        promotion = None if data.get("promotion") is None else _promotion(data["promotion"])
        return cls(ratios, _size(data["imgsz"]), str(data["precision"]), removed, int(data.get("base", 0)), promotion)


def _size(value: Any) -> Size:
    size = size_of(value)
    if size is None:
        raise ValueError(f"{value!r} is no input size")
    return size


def _promotion(data: Mapping[str, Any]) -> Promotion:
    trial = None if data["trial"] is None else int(data["trial"])
    return Promotion(trial, float(data["had"]), float(data["epochs"]))


@dataclass(frozen=True)
class Origin:
    """What a result was made of, as sha256 digests: a result of another run, or of another candidate, has others.

    Attributes:
        study: of the settings, the model and the data that make trials comparable.
        base: of the figures of the unpruned model.
        candidate: of the candidate; empty where it is that of a whole run.
    """

    study: str = ""
    base: str = ""
    candidate: str = ""

    def of(self, candidate: Candidate) -> Origin:
        """Return the origin of a result of this candidate in the same run."""
        return replace(self, candidate=json_digest(candidate.to_json()))

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Origin:
        return cls(str(data["study"]), str(data["base"]), str(data["candidate"]))


def json_digest(content: Any) -> str:
    """Return the sha256 of JSON data, whatever the order of keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class RepairStep:
    """Effect of a repair step on the loss on held-out training images.

    Attributes:
        kept: False if the network is better without it.
        change: mean of the paired differences, below 0 is better; None if the loss is not finite.
        error: its standard error; None if there is only one difference.
    """

    step: str
    kept: bool
    change: float | None
    error: float | None


@dataclass(frozen=True)
class Measurement:
    """Measurements of a candidate, and the pruned network it stands for.

    Attributes:
        figures: objective name -> value with its 95 % interval.
        widths: group name -> channels kept, after rounding and ties.
        plan: the pruning plan as JSON text; None if there is none (the base, fakes).
        digest: sha256 of the kept channel indices; equal digests are equal networks.
        seconds: phase -> wall-clock seconds.
        per_class: label of a class (its name, with its number where others have the same) -> map50_95.
        notes: remarks for the reader, one sentence each.
        score: divergence of the outputs before the fine-tune; None if not measured.
        paired: accuracy figure -> standard error of its difference to the base's on the same images, used for ranking.
        replicates: accuracy figure -> value in each resample of the validation images, the same ones for every model,
            to pair models with; empty in reduced precision.
        screened: True if the score ended the trial: there is no accuracy, and the latency is a prediction.
        timing: the measurement behind the latency: ratio to the base, p50_ms and p90_ms of the inferences, flags,
            runtime, version, device, threads, processor; empty if nothing was timed.
        seeds: number of trainings whose mean the accuracy is.
        weights: sha256 of weights.pt as validated; empty if nothing was saved.
        repair: the effect of each repair step, and whether it was kept.
        epochs: those of the fine-tune; None if unknown.
    """

    figures: Mapping[str, Estimate]
    widths: Mapping[str, int] = field(default_factory=dict)
    plan: str | None = None
    digest: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    per_class: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    score: float | None = None
    screened: bool = False
    paired: Mapping[str, float] = field(default_factory=dict)
    replicates: Mapping[str, Sequence[float]] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 1
    weights: str = ""
    repair: tuple[RepairStep, ...] = ()
    epochs: float | None = None

    def compared(self) -> dict[str, Any]:
        """Return, of a base, what trials are compared with: figures, and the accuracy of each class."""
        return {"figures": figures_to_json(self.figures), "per_class": dict(self.per_class)}

    def to_json(self) -> dict[str, Any]:
        return {
            "figures": figures_to_json(self.figures),
            "widths": dict(self.widths),
            "plan": self.plan,
            "digest": self.digest,
            "seconds": {phase: round(value, 3) for phase, value in self.seconds.items()},
            "per_class": dict(self.per_class),
            "notes": list(self.notes),
            "score": self.score,
            "screened": self.screened,
            "paired": dict(self.paired),
            "replicates": {name: list(values) for name, values in self.replicates.items()},
            "timing": dict(self.timing),
            "seeds": self.seeds,
            "weights": self.weights,
            "repair": [asdict(step) for step in self.repair],
            "epochs": self.epochs,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        return cls(
            figures=figures_from_json(data["figures"]),
            widths={str(name): int(width) for name, width in data["widths"].items()},
            plan=data["plan"],
            digest=data["digest"],
            seconds=dict(data["seconds"]),
            per_class=dict(data.get("per_class", {})),
            notes=tuple(data.get("notes", ())),
            score=data.get("score"),
            screened=bool(data.get("screened", False)),
            paired=dict(data.get("paired", {})),
            replicates={name: tuple(values) for name, values in data.get("replicates", {}).items()},
            timing=dict(data.get("timing", {})),
            seeds=int(data.get("seeds", 1)),
            weights=str(data.get("weights", "")),
            repair=tuple(RepairStep(**step) for step in data.get("repair", ())),
            epochs=data.get("epochs"),
        )


@dataclass(frozen=True)
class FinalLatency:
    """The latency of one trial by the measurement of several trials together.

    Attributes:
        timing: as `Measurement.timing`.
        further: other figures of that measurement, such as `e2e_ms`.
    """

    latency_ms: Estimate
    timing: Mapping[str, Any]
    further: Mapping[str, Estimate] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        figures = figures_to_json({"latency_ms": self.latency_ms})
        return {**figures, **({"figures": figures_to_json(self.further)} if self.further else {}), **self.timing}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FinalLatency:
        timing = {name: fact for name, fact in data.items() if name not in ("latency_ms", "figures")}
        latency = figures_from_json({"latency_ms": data["latency_ms"]})["latency_ms"]
        return cls(latency, timing, figures_from_json(data.get("figures", {})))


@dataclass(frozen=True)
class Failure:
    """Why a trial, or another job, has no result."""

    kind: FailureKind
    message: str

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind.value, "message": self.message}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failure:
        return cls(FailureKind(data["kind"]), str(data["message"]))


Outcome = Measurement | Failure
"""How a trial ended."""


@dataclass(frozen=True, order=True)
class PointId:
    """What a point of the results is called and keyed by: a trial, `17`, or an export of it, `17-int8`.

    Attributes:
        trial: number of the trial, or of the one that was exported.
        precision: fp32, fp16 or int8 of an export; empty for the trial itself, which comes before its exports.
    """

    trial: int
    precision: str = ""

    def __str__(self) -> str:
        return f"{self.trial}-{self.precision}" if self.precision else str(self.trial)

    @classmethod
    def parse(cls, text: str) -> PointId:
        """Inverse of `str`. Raises ValueError for any other text."""
        match = _POINT.fullmatch(text)
        if match is None:
            raise ValueError(f"expected a trial such as 17, or an export such as 17-int8, found {text!r}")
        return cls(int(match[1]), match[2] or "")


_POINT = re.compile(r"([0-9]+)(?:-(fp32|fp16|int8))?")


@dataclass(frozen=True)
class Trial:
    """One candidate and everything known about it.

    Attributes:
        number: counts from 0; of an export that of the trial that was exported.
        source: which proposer made the candidate ("opening", "tpe", ...).
        same_as: number of the trial whose measurement was copied because the networks are equal.
        failure: why it has no measurement, where it failed.
        exported: True for a trial's export in another precision (`search.results.exported_points`).
    """

    number: int
    state: TrialState
    candidate: Candidate
    measurement: Measurement | None = None
    failure: Failure | None = None
    source: str = ""
    same_as: int | None = None
    exported: bool = False

    @property
    def outcome(self) -> Outcome | None:
        """The measurement or failure; None while it has not ended."""
        return self.failure if self.measurement is None else self.measurement

    @property
    def error(self) -> str | None:
        """The failure as text, `timeout: not finished after 10 minutes`; None if it did not fail."""
        return None if self.failure is None else f"{self.failure.kind.value}: {self.failure.message}"

    @property
    def id(self) -> PointId:
        """What it is called and keyed by; a trial and its exports share the number, but not this."""
        return PointId(self.number, self.candidate.precision if self.exported else "")

    @property
    def measured(self) -> Measurement:
        """The measurement. Raises ValueError for a trial that has none."""
        if self.measurement is None:
            raise ValueError(f"trial {self.id} has no measurement: it is {self.state.value}")
        return self.measurement

    @property
    def figures(self) -> Mapping[str, Estimate]:
        """The figures of the measurement. Raises ValueError for a trial that has none."""
        return self.measured.figures

    @property
    def seconds_total(self) -> float:
        """Wall-clock seconds that this trial cost; 0 for a copy."""
        if self.measurement is None or self.same_as is not None:
            return 0.0
        return sum(self.measurement.seconds.values())


def figures_to_json(figures: Mapping[str, Estimate]) -> dict[str, FigureCell]:
    """Return {name: {"value", "low", "high"}}."""
    return {name: {"value": e.value, "low": e.low, "high": e.high} for name, e in figures.items()}


def figures_from_json(data: Mapping[str, FigureCell]) -> dict[str, Estimate]:
    """Invert `figures_to_json`. Raises ValueError if a figure is not finite."""
    return {
        str(name): Estimate(value=float(e["value"]), low=float(e["low"]), high=float(e["high"]))
        for name, e in data.items()
    }


@dataclass(frozen=True)
class ScreeningLimit:
    """The largest divergence with which a candidate is fine-tuned; `screening.screening_limit` computes it."""

    limit: float

    def admits(self, divergence: float) -> bool:
        """Return whether a candidate is fine-tuned."""
        return divergence <= self.limit
