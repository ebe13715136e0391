"""The records of snapshot.json, shared by its writer and everything that reads it.

`snapshot.schema.json` beside this module is the same as JSON Schema, written by `write_schema`. Snapshots of older
versions may lack keys, so readers use `get`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from search.trial import CandidateRow, FigureCell

FORMAT = 2
"""Since format 2 rows are keyed by text; `snapshot_reader.current` reads format 1, in which trials were numbers."""
SCHEMA = Path(__file__).with_name("snapshot.schema.json")


class Measured(TypedDict):
    """Measurement of a model."""

    figures: dict[str, FigureCell]
    per_class: dict[str, float]


class BaseRow(Measured):
    """One base of a study of several: its figures, and what the search made of it.

    `last` is the number of its last trial; `is_left` says that the guides have given it none since.
    """

    name: str
    groups: list[dict[str, Any]]
    trials: int
    on_front: int
    last: int | None
    is_left: bool


class BaselineRow(Measured):
    """A baseline, or why it could not be measured."""

    name: str
    kind: str
    note: str


class TrialRow(Measured):
    """A trial, or its export in another precision.

    `id` is what everything refers to it by: `17`, or `17-int8` for an export of trial 17, whose `number` is 17 too.
    `breaks` are the constraints that it does not keep, in words; `same_as` is the trial whose network it has;
    `epochs` are those of its fine-tune, None where nobody recorded them. `estimated` is true of a screened trial, of
    which `expected` says what its score promises. `base` is the name of its base, in a study of several.
    """

    id: str
    number: int
    exported: bool
    state: str
    source: str
    feasible: bool
    breaks: list[str]
    on_front: bool
    same_as: int | None
    widths: dict[str, int]
    removed: list[str]
    candidate: CandidateRow
    seconds: dict[str, float]
    notes: list[str]
    timing: dict[str, Any]
    seeds: int
    epochs: float | None
    error: str | None
    estimated: bool
    expected: dict[str, float]
    score: float | None
    base: NotRequired[str]


class ObjectiveRow(TypedDict):
    """An objective; `direction` is min or max."""

    name: str
    unit: str
    direction: str
    title: str


class ConstraintRow(TypedDict):
    """A constraint on trials."""

    name: str
    op: str
    limit: float


class PickRow(TypedDict):
    """The id of the trial chosen within a budget, None where nothing fits, and why."""

    trial: str | None
    sentence: str


class VolumePoint(TypedDict):
    """The hypervolume of the front after a trial."""

    trial: int
    value: float


class ScoreRow(TypedDict):
    """Rank correlation (Kendall's tau) of a cheap score with the accuracy."""

    name: str
    correlation: float
    trials: int


class ProgressRow(TypedDict):
    """Counts of trials, seconds spent and seconds left; None if unknown."""

    done: int
    failed: int
    running: int
    total: int
    seconds: float
    eta_s: float | None


class EndRow(TypedDict):
    """The limit that ended the search."""

    reason: str
    sentence: str


class TargetView(TypedDict):
    """What differs by another device's times; `latency_ms` holds [value, low, high] by id."""

    machine: dict[str, str | int]
    base_ms: float
    latency_ms: dict[str, list[float]]
    flags: dict[str, list[str]]
    feasible: list[str]
    front: list[str]
    picks: dict[str, PickRow]
    hypervolume: list[VolumePoint]
    verdict: str


class Snapshot(TypedDict):
    """Everything about a study that is displayed. `rungs` are the cheap scores, `target` the device of the view.

    `bases` are those of a study of several, which a candidate's `base` counts; `base` and `groups` are the first's.
    """

    format: int
    name: str
    state: str
    created: str
    updated: str
    version: str
    environment: dict[str, Any]
    target: dict[str, Any] | None
    targets: list[str]
    on_targets: dict[str, TargetView]
    study: dict[str, Any]
    objectives: list[ObjectiveRow]
    constraints: list[ConstraintRow]
    budgets: dict[str, dict[str, float]]
    progress: ProgressRow
    base: Measured | None
    bases: NotRequired[list[BaseRow]]
    groups: list[dict[str, Any]]
    trials: list[TrialRow]
    front: list[str]
    hypervolume: list[VolumePoint]
    picks: dict[str, PickRow]
    rungs: list[ScoreRow]
    latency_model: dict[str, Any] | None
    verdict: str
    baselines: list[BaselineRow]
    end: EndRow | None


def schema_text() -> str:
    """Return the JSON Schema of a snapshot, as committed."""
    from pydantic import TypeAdapter

    return json.dumps(TypeAdapter(Snapshot).json_schema(), indent=1) + "\n"


def write_schema() -> None:
    """Write snapshot.schema.json: python -c "from search.results.schema import write_schema; write_schema()"."""
    SCHEMA.write_text(schema_text(), encoding="utf-8")
