"""The data of the page: a snapshot in compact form, with other files of the run's folder.

The report embeds it, the dashboard sends it; the page is the same. Widths, ratios and class figures are
lists along `groups`, `dimensions` and `classes`, so that 500 trials fit into a file that can be mailed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from search.errors import RunCorrupt
from search.present.device_views import target_data
from search.present.health import health
from search.present.summary import summary
from search.results import snapshot_reader as reading
from search.results.schema import Snapshot
from search.run_folder.annotations import read_marks
from search.run_folder.artefact_files import inside
from search.run_folder.atomic import read_mapping
from search.run_folder.enqueue import waiting

Data = dict[str, Any]

_ELSEWHERE = ("candidate", "on_front", "timing", "base")  # told in another form
_NOTHING: tuple[Any, ...] = (None, [], {})
_TIMING = ("p90_ms", "reference_ms", "rounds", "ratios")


@dataclass(frozen=True)
class Frame:
    """Axes of a row's lists: widths along `groups`, ratios along `dimensions`, AP along `classes`.

    `further` are the groups of the bases beside the first.
    """

    groups: tuple[str, ...]
    dimensions: tuple[str, ...]
    classes: tuple[str, ...]
    further: tuple[tuple[str, ...], ...] = ()

    def groups_of(self, base: int) -> tuple[str, ...]:
        """Return the groups of one base."""
        return self.further[base - 1] if 0 < base <= len(self.further) else self.groups


def page_data(snapshot: Snapshot, run: Path | None = None) -> Data:
    """Return the content of the page for a snapshot.

    Args:
        run: the run's folder; without it, files beside the snapshot (marks, what-if, sensitivity) are missing.
    """
    head, frame = page_head(snapshot, run)
    return {**head, "trials": [page_row(row, frame) for row in snapshot.get("trials") or ()]}


def page_head(snapshot: Snapshot, run: Path | None = None) -> tuple[Data, Frame]:
    """Return everything but the trials, and the axes of their rows."""
    beside = {} if run is None else _beside(run)
    groups = with_zones(snapshot.get("groups") or ())
    names = tuple(str(group["name"]) for group in groups)
    bases = [_shown_base(row) for row in snapshot.get("bases") or ()]
    further = tuple(tuple(str(group["name"]) for group in base["groups"]) for base in bases[1:])
    frame = Frame(names, tuple(_dimensions(snapshot, beside)), tuple(_classes(snapshot)), further)
    content = {
        **beside,
        **{key: found for key, found in snapshot.items() if key != "trials"},
        "run": _shown_path(snapshot),
        "summary": summary(snapshot),
        "health": health(snapshot),
        "on_targets": target_data(snapshot),
        "dimensions": frame.dimensions,
        "classes": frame.classes,
        "groups": groups,
        "base": _base(snapshot.get("base"), frame.classes),
        **({"bases": bases} if bases else {}),
        "described": _described(snapshot),
    }
    plain: Data = finite(content)
    return plain, frame


def _described(snapshot: Snapshot) -> dict[str, dict[str, str]]:
    """Return title, unit and direction of every measured figure, so that signs of differences are shown correctly."""
    rows = [snapshot.get("base") or {}, *(snapshot.get("trials") or ())]
    known = (reading.describe(snapshot, name) for name in {str(n) for row in rows for n in row.get("figures") or {}})
    told = sorted(known, key=lambda figure: figure.name)
    return {one.name: {"title": one.title, "unit": one.unit, "direction": one.direction} for one in told}


def page_row(row: Mapping[str, Any], frame: Frame) -> Data:
    """Return one trial."""
    plain: Data = finite(_row(row, frame))
    return plain


def with_zones(groups: Iterable[Mapping[str, Any]]) -> list[Data]:
    """Add to each group row its zone: stem, backbone, neck or head.

    The stem is the first stage. The neck begins where layer numbers jump over layers without channels of their own: the
    first upsample and concat. Head stages are named so.
    """
    rows, stem, last, zone = [], None, None, "backbone"
    for group in groups:
        stage = str(group.get("stage") or "")
        stem = stage if stem is None else stem
        number = _layer_number(stage)
        if number is not None and last is not None and number > last[1] + 1:
            zone = "neck"
        last = (stage, _last_number(stage)) if number is not None else last
        place = "head" if stage.startswith("head") else "stem" if stage == stem else zone
        rows.append({**group, "zone": place})
    return rows


def finite(data: Any) -> Any:
    """Round numbers to six digits and replace non-finite ones by null, which JSON lacks."""
    if isinstance(data, Mapping):
        return {str(key): finite(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(item) for item in data]
    if isinstance(data, float):
        return _short(data) if math.isfinite(data) else None
    return data


def _short(number: float) -> float:
    """Round a fraction to six digits; whole numbers keep all of theirs."""
    return number if number.is_integer() else float(f"{number:.6g}")


def _beside(run: Path) -> Data:
    return {
        "sensitivity": (_mapping(run, "sensitivity/curves.json") or {}).get("curves"),
        "whatif": _mapping(run, "base/whatif.json"),
        "marks": _marks(run),
        "waiting": waiting(run),
    }


def _marks(run: Path) -> Data:
    try:
        return {str(point): asdict(mark) for point, mark in read_marks(run).items()}
    except (RunCorrupt, KeyError, TypeError, ValueError):
        return {}


def _shown_path(snapshot: Snapshot) -> str:
    """Return the path as a user types it; never the machine's absolute path, because reports are mailed."""
    return f"{(snapshot.get('study') or {}).get('project') or 'runs/prune'}/{snapshot.get('name')}"


def _dimensions(snapshot: Snapshot, beside: Mapping[str, Any]) -> list[str]:
    told = (beside.get("whatif") or {}).get("dimensions") or ()
    if told:
        return [str(row["name"]) for row in told]
    rows = snapshot.get("trials") or ()
    return list(dict.fromkeys(name for row in rows for name in ((row.get("candidate") or {}).get("ratios") or {})))


def _classes(snapshot: Snapshot) -> list[str]:
    rows = [snapshot.get("base") or {}, *(snapshot.get("trials") or ())]
    return list(dict.fromkeys(str(name) for row in rows for name in row.get("per_class") or {}))


def _shown_base(row: Mapping[str, Any]) -> Data:
    """Return one base of several: what tells it apart; its figures are those of the base, or of a baseline."""
    return {"name": row["name"], "groups": with_zones(row["groups"])}


def _row(row: Mapping[str, Any], frame: Frame) -> Data:
    candidate = row.get("candidate") or {}
    groups, dimensions, classes = frame.groups_of(candidate.get("base", 0)), frame.dimensions, frame.classes
    widths, ratios = row.get("widths") or {}, candidate.get("ratios") or {}
    ratios = {} if candidate.get("base") else ratios  # they are points of the what-if view, which is of the first base
    rest = {key: found for key, found in candidate.items() if key not in ("ratios", "removed")}
    return {
        **{key: found for key, found in row.items() if key not in _ELSEWHERE and found not in _NOTHING},
        "figures": {name: _figure(figure) for name, figure in (row.get("figures") or {}).items()},
        "timing": {key: found for key, found in (row.get("timing") or {}).items() if key in _TIMING} or None,
        "widths": [widths.get(name) for name in groups] if widths else None,
        "ratios": [_rounded(ratios.get(name)) for name in dimensions] if ratios else None,
        "per_class": _along(row.get("per_class"), classes),
        "candidate": rest,
    }


def _base(base: Mapping[str, Any] | None, classes: Sequence[str]) -> Data | None:
    if base is None:
        return None
    figures = {name: _figure(figure) for name, figure in (base.get("figures") or {}).items()}
    return {**base, "figures": figures, "per_class": _along(base.get("per_class"), classes)}


def _figure(figure: Mapping[str, Any]) -> list[Any]:
    """Return [value], or [value, low, high] if there is an interval."""
    value, low, high = figure.get("value"), figure.get("low"), figure.get("high")
    return [value] if low is None or high is None or low == high else [value, low, high]


def _along(named: Mapping[str, Any] | None, names: Sequence[str]) -> list[float | None] | None:
    return [_rounded(named.get(name)) for name in names] if named else None


def _rounded(number: float | None) -> float | None:
    return None if number is None or not math.isfinite(number) else round(float(number), 4)


def _mapping(run: Path, name: str) -> dict[str, Any] | None:
    """Return a JSON file of the run; None for one that a link brings in."""
    return read_mapping(run / name) if inside(run, run / name) else None


def _layer_number(stage: str) -> int | None:
    """Parse `model.12-15` -> 12; None for a stage that is not numbered."""
    text = stage.removeprefix("model.").partition("-")[0]
    return int(text) if text.isdecimal() else None


def _last_number(stage: str) -> int:
    return int(stage.removeprefix("model.").rpartition("-")[2])
