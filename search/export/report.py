"""Records of exported artefacts, written as export.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from objectives.image_size import Size

FORMAT = 2


@dataclass(frozen=True)
class Parity:
    """Difference of the artefact's raw outputs from the model's on the same images.

    Args:
        inputs: "val" for images of the validation split, "random" when there were none.
        images: number of images.
        max_abs: largest difference of any output value, in its own unit (pixels for boxes).
        relative: the largest difference within a channel over that channel's largest absolute value, worst channel.
        loud: the same by root mean squares, where a channel is above half of its largest value: about 1 where an
            artefact returns zeros.
    """

    inputs: str
    images: int
    max_abs: float
    relative: float
    loud: float


@dataclass(frozen=True)
class ArtefactCheck:
    """One artefact and its measurements. `path` is relative to the export folder; empty: none was made.

    Args:
        parity: None if the artefact could not be run.
        accuracy: figures of the validation split, by objective name; empty if it could not be validated.
        drop: metric of the model minus metric of the artefact (positive: the artefact is worse).
        latency: of this very file; None if not requested. See `deliver/artefact_latency.py`.
        memory: of a process that loads and runs it. See `objectives/resources/peak_memory.py`.
        graph: what tells its graph from the plain one: `nms`, `dynamic`, `batch4`.
        unchecked: checks that this machine cannot perform, with reasons.
        faults: why it was not delivered; empty for a delivered one.
    """

    format: str
    precision: str
    path: str = ""
    size_bytes: int = 0
    digest: str = ""
    seconds: float = 0.0
    parity: Parity | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    per_class: Mapping[str, float] = field(default_factory=dict)
    drop: float | None = None
    latency: Mapping[str, Any] | None = None
    memory: Mapping[str, float] | None = None
    graph: str = ""
    unchecked: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if it was delivered."""
        return not self.faults

    @property
    def label(self) -> str:
        """`onnx int8`, or `onnx fp32 nms`."""
        return f"{self.format} {self.precision} {self.graph}".rstrip()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader of its accuracy has to know."""
        if "nms" not in self.graph.split():
            return ()
        said = "it gives objects above its own threshold, each of one class; the checkpoint is held against it so"
        return (f"{said}, except that a validation lets a box have several classes",)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ArtefactCheck:
        """Parse the output of `asdict`. Raises KeyError or TypeError on anything else."""
        parity = None if data["parity"] is None else Parity(**data["parity"])
        texts = {key: tuple(data[key]) for key in ("unchecked", "faults")}
        return cls(**{**data, "parity": parity, **texts})


@dataclass(frozen=True)
class ExportReport:
    """An export: the source model, and one check per artefact.

    Args:
        accuracy: of the model itself, validated as its artefacts are.
        metric: the figure that `max_drop` bounds.
        notes: requested combinations that do not exist.
    """

    model: str
    model_digest: str
    size_bytes: int
    data: str
    imgsz: Size
    metric: str
    accuracy: Mapping[str, float]
    per_class: Mapping[str, float]
    max_drop: float | None
    versions: Mapping[str, str]
    artefacts: tuple[ArtefactCheck, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if every artefact was delivered."""
        return all(check.passed for check in self.artefacts)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON content of export.json."""
        return {"format": FORMAT, "passed": self.passed, **asdict(self)}

    def with_earlier(self, content: Mapping[str, Any] | None, folder: Path) -> ExportReport:
        """Add artefacts of an earlier export of the same model that still exist in `folder`."""
        if content is None or content.get("format") != FORMAT or content.get("model_digest") != self.model_digest:
            return self
        remade = {check.label for check in self.artefacts}
        checks = [ArtefactCheck.from_json(row) for row in content["artefacts"]]
        kept = [c for c in checks if c.path and c.passed and c.label not in remade and (folder / c.path).exists()]
        return replace(self, artefacts=(*kept, *self.artefacts))
