"""What is known about exported artefacts: plain frozen records, written as export.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

FORMAT = 1


@dataclass(frozen=True)
class Parity:
    """How far the artefact's raw outputs are from the model's on the same images.

    Args:
        inputs: "val" for images of the validation split, "random" when there were none.
        images: how many.
        max_abs: largest difference of any output value, in its own unit (pixels for boxes).
        relative: the largest difference within a channel over that channel's largest absolute value, worst channel.
    """

    inputs: str
    images: int
    max_abs: float
    relative: float


@dataclass(frozen=True)
class ArtefactCheck:
    """One artefact and everything measured on it. `path` is relative to the export folder.

    Args:
        drop: metric of the model minus metric of the artefact (positive: the artefact is worse).
        latency: runtime, median and 90th percentile in ms, ratio to the PyTorch model; None when not asked for.
        faults: why it was not delivered; empty for a delivered one.
    """

    format: str
    precision: str
    path: str
    size_bytes: int
    digest: str
    seconds: float
    parity: Parity
    accuracy: Mapping[str, float]
    drop: float
    latency: Mapping[str, Any] | None
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """True when it was delivered."""
        return not self.faults


@dataclass(frozen=True)
class ExportReport:
    """An export: the model it started from, and one check per artefact."""

    model: str
    model_digest: str
    size_bytes: int
    data: str
    imgsz: int
    metric: str
    accuracy: Mapping[str, float]
    max_drop: float | None
    versions: Mapping[str, str]
    artefacts: tuple[ArtefactCheck, ...]

    @property
    def passed(self) -> bool:
        """True when every artefact was delivered."""
        return all(check.passed for check in self.artefacts)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON content of export.json."""
        return {"format": FORMAT, "passed": self.passed, **asdict(self)}
