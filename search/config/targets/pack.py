"""A target pack: a small YAML, one of the package's or a user's own, that says what a device asks of a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from objectives.errors import LatencyError
from objectives.runtimes.names import check_runtime
from search.config import yaml_source
from search.config.inputs.paths import is_file
from search.config.sections import Section, Whole
from search.config.targets.limits import Limits
from search.config.validation_errors import faults_error
from search.errors import near_miss

FOLDER = Path(__file__).parent / "packs"
NAMES = ("pi5-ncnn", "orin-int8", "rk3588", "hailo8l", "imx500", "coral", "htp", "cpu-openvino")
"""Packs of the package."""
SUFFIXES = (".yaml", ".yml")
Move = Literal["depth", "levels"]
Precision = Literal["fp32", "fp16", "int8"]


class PackLatency(Section):
    """What is timed, as in the study's `latency`; null leaves the study's default."""

    runtime: str | None = None
    device: str | None = None
    threads: Whole | None = Field(default=None, ge=1, le=1024)
    batch: Whole | None = Field(default=None, ge=1, le=65_536)

    @field_validator("runtime")
    @classmethod
    def _known_runtime(cls, value: str | None) -> str | None:
        try:
            return None if value is None else check_runtime(value)
        except LatencyError as fault:
            raise ValueError(str(fault)) from fault

    @field_validator("device", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class PackSpace(Section):
    """Precisions and rounding of the study's `space`; null leaves the study's default."""

    precision: tuple[Precision, ...] | None = None
    round_to: Literal["auto"] | Whole | None = None

    @field_validator("round_to")
    @classmethod
    def _a_multiple(cls, value: object) -> object:
        if isinstance(value, int) and not 1 <= value <= 256:
            raise ValueError(f"expected auto, or 1 to 256, found {value}")
        return value


class PackStudy(Section):
    """Keys of a study; those that the study has itself take precedence."""

    latency: PackLatency = PackLatency()
    space: PackSpace = PackSpace()

    def keys(self) -> dict[str, Any]:
        """Return dotted key -> value of all that is set."""
        said = self.model_dump(mode="json")
        return {f"{name}.{key}": v for name, part in said.items() for key, v in part.items() if v is not None}


class PackExport(Section):
    """How a pick is delivered: a format of `paretoprune export`, and its bits."""

    format: str = "onnx"
    quantize: Literal[8, 16, 32] = 32


class Pack(Limits):
    """One device.

    `device`: what sentences call it. `study`: keys that it sets; no `latency.runtime`: none here runs on it.
    `instead`: what is timed where that runtime is missing. `boards`: parts of the name by which the device knows itself
    (/proc/device-tree/model); empty: it may be this machine. `forbid`: moves of the search that its exporter does not
    stand, each with the reason. `measure`: how its own latency is had.
    """

    device: str
    title: str = ""
    study: PackStudy = PackStudy()
    instead: PackLatency = PackLatency()
    boards: tuple[str, ...] = ()
    forbid: dict[Move, str] = Field(default_factory=dict)
    measure: str = 'latency.runtime="command:./time_on_board.sh {model}"'
    export: PackExport = PackExport()
    notes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def target_fault(asked: object) -> str | None:
    """Return why there is no such target; None if there is one, which may yet have faults of its own."""
    if not isinstance(asked, str):
        return f"expected one of {', '.join(NAMES)}, or a YAML file of your own, found {yaml_source.clipped(asked)}"
    if asked in NAMES:
        return None
    if asked.endswith(SUFFIXES):
        return None if is_file(Path(asked)) else f"no such file: {asked}; expected a YAML like those in docs/targets.md"
    near = near_miss(asked.lower(), NAMES)
    hint = f"did you mean {near}? " if near else ""
    known = ", ".join(NAMES)
    return f"no target {yaml_source.clipped(asked)}; {hint}known here: {known}, or a YAML file of your own"


def read_pack(asked: str) -> Pack:
    """Read a pack by its name, or a user's own by its path.

    Raises:
        ConfigError: every fault of the file at once, each with its line.
    """
    source = yaml_source.read(FOLDER / f"{asked}.yaml" if asked in NAMES else Path(asked))
    try:
        return Pack.model_validate(_listed(source.data))
    except ValidationError as error:
        raise faults_error(error, source, {}, Pack, "target", "see docs/targets.md for its keys") from error


def _listed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data with single texts where lists are meant."""
    several = ("boards", "notes", "sources")
    return {key: [v] if key in several and isinstance(v, str) else v for key, v in data.items()}
