"""A run's baselines on disk.

    baselines/<row>/{row.json,result.json,train.log,error.txt?}

row.json describes the baseline, result.json is as a trial's. A baseline without a result is measured again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.config.baseline_names import NAMES
from search.evaluate.baselines import Baseline
from search.results.schema import BaselineRow
from search.run_folder.atomic import write_json
from search.run_folder.record import MISSHAPEN, RunRecord, check_known, read_outcome
from search.trial import Failure, Measurement, Origin, Outcome, figures_to_json

FORMAT = 1


@dataclass(frozen=True)
class BaselineResult:
    """A baseline that was measured, or could not be.

    Attributes:
        same_as: number of the trial with the same network.
    """

    name: str
    kind: str
    slug: str
    outcome: Outcome
    same_as: int | None = None

    @property
    def measured(self) -> Measurement | None:
        """The measurement; None if it failed."""
        return self.outcome if isinstance(self.outcome, Measurement) else None

    @property
    def note(self) -> str:
        """A note for the reader."""
        if isinstance(self.outcome, Failure):
            return f"not measured: {self.outcome.message}"
        same = [] if self.same_as is None else [f"the network of trial {self.same_as}, measured once"]
        return "; ".join([*same, *self.outcome.notes])

    def to_json(self) -> BaselineRow:
        """Return the row of a snapshot."""
        measured = self.measured
        return {
            "name": self.name,
            "kind": self.kind,
            "figures": {} if measured is None else figures_to_json(measured.figures),
            "per_class": {} if measured is None else dict(measured.per_class),
            "note": self.note,
        }


def further_rows(names: Sequence[str], further: Sequence[Measurement]) -> tuple[BaselineResult, ...]:
    """Return the bases beside the first as rows, as they are: each was measured before the search.

    Args:
        names: of all bases; `further`: figures of all but the first.
    """
    rows = enumerate(zip(names[1:], further, strict=False), 2)
    return tuple(BaselineResult(f"unpruned {name}", "base", f"base-{place}", base) for place, (name, base) in rows)


def row_dir(record: RunRecord, slug: str) -> Path:
    """Return the folder of a baseline."""
    return record.path / "baselines" / slug


def start_row(record: RunRecord, row: Baseline) -> Path:
    """Create an empty folder for the baseline, with row.json."""
    folder = row_dir(record, row.slug)
    shutil.rmtree(folder, ignore_errors=True)
    write_json(folder / "row.json", {"format": FORMAT, "name": row.name, "kind": row.kind})
    return folder


def missing(record: RunRecord, rows: Sequence[Baseline], *, failed_too: bool) -> list[Baseline]:
    """Return the baselines without a result; `failed_too`: including failed ones, to try them again."""
    known = {result.slug: result for result in read_rows(record)}

    def is_missing(row: Baseline) -> bool:
        return row.slug not in known or (failed_too and known[row.slug].measured is None)

    return list(filter(is_missing, rows))


def read_rows(record: RunRecord) -> tuple[BaselineResult, ...]:
    """Load all baselines with a result, by kind. Unreadable and foreign ones count as absent: they can be
    measured again."""
    paths = list((record.path / "baselines").glob("*/result.json"))
    origin = record.origin() if paths else Origin()
    found = [_read(path.parent, origin) for path in paths]
    order = {name: number for number, name in enumerate(NAMES)}
    return tuple(sorted(filter(None, found), key=lambda row: (order.get(row.kind, len(order)), row.slug)))


def _read(folder: Path, origin: Origin) -> BaselineResult | None:
    try:
        row = json.loads((folder / "row.json").read_text(encoding="utf-8"))
        check_known(row, FORMAT, folder / "row.json")
        outcome, same_as = read_outcome(folder, origin)
        return BaselineResult(str(row["name"]), str(row["kind"]), folder.name, outcome, same_as)
    except (OSError, *MISSHAPEN):
        return None
