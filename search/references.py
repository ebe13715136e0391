"""`RUN:REF`, with REF a trial number, 17-int8 (an export), pick, knee, base, a budget's name, or best@latency_ms<=5.

Of a study of several bases `base` is the first, and each has its name: `RUN:yolov8n`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from objectives.choice import Bound
from search.deliver.picked_trial import PickedTrial
from search.errors import ConfigError, near_miss
from search.results.snapshot_reader import id_of
from search.run_folder.record import RunRecord
from search.study import Study
from search.trial import PointId

_WORDS = ("pick", "knee", "one-se", "base")
_GRAMMAR = "RUN:17, RUN:pick, RUN:knee, RUN:base, RUN:edge (a budget), RUN:17-int8 (exported) or RUN:best@latency_ms<=5"


def find_run(text: str | None, project: Path = Path("runs/prune")) -> Path:
    """Return a run's folder from a path, a name below `project`, or nothing: the most recently written run.

    Raises:
        ConfigError: there is no such run.
    """
    if text is None:
        runs = sorted(project.glob("*/args.yaml"), key=lambda path: path.stat().st_mtime)
        if not runs:
            raise ConfigError(f"no runs in {project}", next_command="paretoprune search study.yaml")
        return runs[-1].parent
    path = Path(text)
    if not (path / "args.yaml").is_file() and (project / text / "args.yaml").is_file():
        path = project / text
    return RunRecord.existing(path).path


def resolve(text: str, open_study: Callable[[Path], Study] = Study.load) -> PickedTrial:
    """Return the trial that `RUN:REF` names.

    Raises:
        ConfigError: no such run, or a reference that names nothing.
        NothingFits: best@ with a budget that no trial is within.
    """
    run, sign, ref = text.rpartition(":")
    if not sign or not run or not ref:
        raise ConfigError(f"{text!r} does not name a trial", expected=_GRAMMAR)
    return _named(open_study(find_run(run)), ref.strip())


def _named(study: Study, ref: str) -> PickedTrial:
    if (point := _point_of(ref)) is not None:
        return study.trial(point.trial, point.precision)
    if ref == "base":
        return study.selection.base()
    if len(study.spec.models) > 1 and ref in study.spec.base_names:
        return study.selection.base(study.spec.base_names.index(ref))
    if ref == "knee":
        return study.knee()
    if ref == "one-se":
        return study.one_se()
    if ref == "pick":
        return _default_pick(study)
    if ref.startswith("best@"):
        return study.pick(*(Bound.parse(part) for part in ref[len("best@") :].split(",")))
    if ref in study.spec.budgets:
        return study.pick(budget=ref)
    known = (*_WORDS, *study.spec.budgets, *(study.spec.base_names if len(study.spec.models) > 1 else ()))
    raise ConfigError(f"{ref!r} names no trial", expected=_GRAMMAR, near=near_miss(ref, known))


def _point_of(ref: str) -> PointId | None:
    """The trial or export that is named by its id; None for a word."""
    try:
        return PointId.parse(ref)
    except ValueError:
        return None


def _default_pick(study: Study) -> PickedTrial:
    """Return the last pick of `paretoprune pick`, else the pick of the study's first budget, else the knee."""
    made = sorted((study.record.path / "picks").glob("*/pick.json"), key=lambda path: path.stat().st_mtime)
    if made:
        point = PointId.parse(id_of(json.loads(made[-1].read_text())["trial"]))
        return study.trial(point.trial, point.precision)
    for name in study.spec.budgets:
        return study.pick(budget=name)
    return study.knee()
