"""Latencies of another device, to re-rank a finished study by.

    latency/targets/<name>.json    what the device measured, by trial, checked when it was imported

The figures come from outside: everything in them is checked, and a model whose sha256 is not that of this run's kit
is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from objectives.objective import Estimate
from search.errors import ConfigError, RunCorrupt, near_miss
from search.run_folder.atomic import write_json
from search.run_folder.record import MISSHAPEN, RunRecord, check_known
from search.trial import Measurement, Trial

FORMAT = 1
"""Of a kit's manifest, of the figures that come back, and of what is kept of them."""
MAX_BYTES = 4 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_FIGURE = "latency_ms"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)


class _Interval(_Strict):
    value: float = Field(gt=0)
    low: float = Field(gt=-math.inf)
    high: float = Field(gt=0)

    @model_validator(mode="after")
    def _holds_the_value(self) -> _Interval:
        if not self.low <= self.value <= self.high:
            raise ValueError("the interval does not hold the value")
        return self


class _Row(_Strict):
    file: str = Field(max_length=200)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    ratio: _Interval
    latency_ms: _Interval
    p50_ms: float = Field(gt=0)
    p90_ms: float = Field(gt=0)
    rounds: int = Field(ge=1)
    flags: tuple[str, ...] = Field(default=(), max_length=20, strict=False)


class Figures(_Strict):
    """A figures.json as written by `kit/run.py`."""

    format: int
    kit: str = Field(pattern="^[0-9a-f]{64}$")
    name: str = Field(max_length=200)
    machine: dict[str, str | int] = Field(default_factory=dict, max_length=40)
    itself: _Interval | None = None
    models: tuple[_Row, ...] = Field(min_length=1, max_length=10_000, strict=False)


@dataclass(frozen=True)
class Target:
    """Another device's latencies of one run.

    Attributes:
        machine: the device's own description.
        base_ms: latency of the unpruned model on it.
        latency_ms: trial -> latency on it, with its 95 % interval.
        flags: trial -> flags of the measurement there.
    """

    name: str
    machine: Mapping[str, str | int]
    base_ms: float
    latency_ms: Mapping[int, Estimate]
    flags: Mapping[int, tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "machine": dict(self.machine),
            "base_ms": self.base_ms,
            "trials": {
                str(number): {**estimate.to_dict(), "flags": list(self.flags.get(number, ()))}
                for number, estimate in self.latency_ms.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Target:
        rows = {int(number): row for number, row in data["trials"].items()}
        return cls(
            name=str(data["name"]),
            machine=dict(data["machine"]),
            base_ms=float(data["base_ms"]),
            latency_ms={number: Estimate(row["value"], row["low"], row["high"]) for number, row in rows.items()},
            flags={number: tuple(row["flags"]) for number, row in rows.items()},
        )

    def base(self, measured: Measurement) -> Measurement:
        """Return the base's figures, with its latency on this device; see `trials`."""
        return _there(measured, Estimate.exact(self.base_ms))

    def trials(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """Return those that were timed on this device, with their latency there; copies share their original's.

        Other costs of the runtime (end to end, memory, energy) were measured here: nobody knows them there.
        """
        found = []
        for trial in trials:
            number = trial.number if trial.same_as is None else trial.same_as
            if trial.measurement is not None and number in self.latency_ms:
                found.append(replace(trial, measurement=_there(trial.measurement, self.latency_ms[number])))
        return tuple(found)


def _there(measured: Measurement, latency_ms: Estimate) -> Measurement:
    further = measured.timing.get("further", {})
    figures = {name: one for name, one in measured.figures.items() if name not in further}
    return replace(measured, figures={**figures, _FIGURE: latency_ms})


def kit_path(record: RunRecord, kit: str) -> Path:
    """Return the path of a kit's manifest in its run."""
    return record.path / "latency" / "kits" / f"{kit[:16]}.json"


def import_figures(record: RunRecord, path: Path, name: str | None = None) -> Target:
    """Validate the figures of a device and store them as latency/targets/<name>.json.

    Args:
        name: name of the device; by default the one in the figures.

    Raises:
        ConfigError: an invalid file or figure (NaN, below zero), a kit of another run, an unknown model, or no base.
    """
    figures = _read_figures(path)
    manifest = _read_manifest(record, figures.kit, path)
    target = _target(figures, manifest, _plain_name(name or figures.name), path)
    write_json(_target_path(record, target.name), target.to_json())
    return target


def read_target(record: RunRecord, name: str) -> Target:
    """Return the figures of a device. Raises ConfigError with the nearest name if the run has none of that name."""
    known = target_names(record)
    if name not in known:
        raise ConfigError(
            f"{record.path} has no figures of {name!r}",
            expected=", ".join(known) or "figures of a device",
            near=near_miss(name, known),
            next_command=f"paretoprune bench {record.path} --bundle kit.zip, and --import what it measures",
        )
    path = _target_path(record, name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check_known(content, FORMAT, path)
        return Target.from_json(content)
    except (OSError, *MISSHAPEN) as error:
        raise RunCorrupt(
            f"cannot be read: {error}", where=str(path), next_command="import its figures again"
        ) from error


def target_names(record: RunRecord) -> list[str]:
    """Return the devices whose figures the run has."""
    return sorted(path.stem for path in (record.path / "latency" / "targets").glob("*.json"))


def _target_path(record: RunRecord, name: str) -> Path:
    return record.path / "latency" / "targets" / f"{name}.json"


def _plain_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:80]!r} cannot name a device",
            where="--name",
            expected="letters, digits, dot, dash and underscore, at most 40",
        )
    return name


def _read_figures(path: Path) -> Figures:
    if not path.is_file():
        raise ConfigError(f"no such file: {path}", where="--import", expected="figures.json of a kit")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES >> 20} MiB", where="--import", expected="figures of a kit")
    try:
        return Figures.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ConfigError(_faults(path, error), where="--import", expected="the file as the kit wrote it") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON: {error}", where="--import", expected="figures of a kit") from error


def _faults(path: Path, error: ValidationError) -> str:
    rows = [f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}" for fault in error.errors()[:5]]
    return f"{path} cannot be used: {'; '.join(rows)}"


def _read_manifest(record: RunRecord, kit: str, path: Path) -> dict[str, Any]:
    place = kit_path(record, kit)
    if not place.is_file():
        raise ConfigError(
            f"{path} was measured with a kit that {record.path} did not make",
            where=f"kit {kit[:16]}",
            next_command=f"paretoprune bench {record.path} --bundle kit.zip",
        )
    found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    return found


def _target(figures: Figures, manifest: Mapping[str, Any], name: str, path: Path) -> Target:
    if figures.format != FORMAT:
        raise ConfigError(f"{path} has format {figures.format}", where="--import", expected=f"format {FORMAT}")
    kit = {row["file"]: row for row in manifest["models"]}
    rows: dict[str, _Row] = {}
    for row in figures.models:
        if row.file not in kit or kit[row.file]["sha256"] != row.sha256:
            raise ConfigError(f"{path}: {row.file!r} is not a model of this kit (its sha256 differs)", where="models")
        if row.file in rows:
            raise ConfigError(f"{path} has two rows for {row.file!r}", where="models", expected="one each")
        rows[row.file] = row
    base = [row for file, row in rows.items() if kit[file]["base"]]
    if not base:
        raise ConfigError(f"{path} lacks the base", where="models", expected="the file as the kit wrote it")
    by_trial = {int(number): row for file, row in rows.items() for number in kit[file]["trials"]}
    return Target(
        name=name,
        machine={key[:40]: _plain(value) for key, value in figures.machine.items()},
        base_ms=base[0].latency_ms.value,
        latency_ms={n: Estimate(**row.latency_ms.model_dump()) for n, row in by_trial.items()},
        flags={n: tuple(_plain(flag) for flag in row.flags) for n, row in by_trial.items()},
    )


def _plain(value: Any) -> Any:
    """Remove control characters and truncate text for a terminal."""
    return "".join(char for char in value if char.isprintable())[:120] if isinstance(value, str) else value
