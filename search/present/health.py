"""Health checks of a search, to read before trusting its front. Pure functions of a snapshot.

Each check returns a `Finding` or None. A warning names the observation, why it matters and what to change.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from search.results import snapshot_reader as reading
from search.results.schema import Snapshot, TrialRow
from search.run_folder.environment import EARLIER

AT_BOUND = 0.02
"""Ratios this close to a bound of the space count as lying on it."""
NOISY = 0.05
"""A 95 % interval of latency wider than this share of its value is noisy."""
LOW_CORRELATION = 0.5
"""Rank correlation (Kendall's tau) with the accuracy below which a cheap score misleads."""
STALLED = 0.005
"""Share of the hypervolume that the last third of the trials must add, or the search has little left to find."""
FAILING = 0.1
"""Share of failed trials that is more than bad luck."""
_ENOUGH = 8


@dataclass(frozen=True)
class Finding:
    """One line of the health tab. `level`: "warn" asks for an action, "info" is a remark."""

    kind: str
    level: str
    title: str
    text: str
    hint: str = ""


def health(snapshot: Snapshot) -> list[dict[str, str]]:
    """Return all findings, warnings first; empty for a faultless search."""
    found = [finding for check in CHECKS if (finding := check(snapshot)) is not None]
    return [asdict(finding) for finding in sorted(found, key=lambda finding: finding.level != "warn")]


def _mixed_versions(snapshot: Snapshot) -> Finding | None:
    earlier = (snapshot.get("environment") or {}).get(EARLIER)
    if earlier is None:
        return None
    return Finding(
        "versions",
        "warn",
        "Trials were measured with different versions",
        f"Another part of them, or the base that all are compared with, had {earlier}. The same plan may have other "
        "figures there.",
        "Compare trials of one version only, or search again under a new name.",
    )


def _space_at_its_bound(snapshot: Snapshot) -> Finding | None:
    rows, (low, high) = _front(snapshot), _ratio_bounds(snapshot)
    if len(rows) < 3 or high <= low:
        return None
    names = list((rows[0].get("candidate") or {}).get("ratios") or {})
    close = high - AT_BOUND * (high - low)
    bound = [name for name in names if sum(_ratio(row, name) >= close for row in rows) * 2 > len(rows)]
    if not bound:
        return None
    return Finding(
        "bound",
        "warn",
        "The space ends where the good trials are",
        f"More than half of the front prunes {_listed(bound)} as hard as the space allows ({high:g}).",
        f"Search again with space.ratio=[{low:g}, {min(0.95, high + 0.1):g}].",
    )


def _flat_front(snapshot: Snapshot) -> Finding | None:
    goal = next((figure for figure in reading.figures(snapshot) if figure.direction == "max"), None)
    rows = [row for row in _front(snapshot) if goal and reading.value(row, goal.name) is not None]
    if goal is None or len(rows) < 3:
        return None
    values = [reading.value(row, goal.name) or 0.0 for row in rows]
    widths = [high - low for row in rows if (spread := reading.interval(row, goal.name)) for low, high in [spread]]
    if not widths or max(values) - min(values) > statistics.median(widths) / 2:
        return None
    return Finding(
        "flat",
        "info",
        "The front is flat",
        f"All {len(rows)} trials of the front have the same {goal.title} within the measuring error.",
        "Take the cheapest, or search smaller models: a higher space.ratio.",
    )


def _noise_of_accuracy(snapshot: Snapshot) -> Finding | None:
    goal = next((figure for figure in reading.figures(snapshot) if figure.direction == "max"), None)
    spreads = [reading.interval(row, goal.name) for row in _front(snapshot)] if goal else []
    halves = [(high - low) / 2 for spread in spreads if spread for low, high in [spread]]
    if goal is None or not halves or statistics.median(halves) < 0.01:
        return None
    points = 100 * statistics.median(halves)
    return Finding(
        "accuracy",
        "info",
        "Small differences of accuracy are noise",
        f"The validation images leave {goal.title} uncertain by {points:.1f} points; smaller differences say little.",
        "More validation images narrow it.",
    )


def _noisy_latency(snapshot: Snapshot) -> Finding | None:
    rows = [row for row in _complete(snapshot) if reading.value(row, "latency_ms")]
    if len(rows) < 3:
        return None
    noisy = [row for row in rows if _relative_width(row) > NOISY or _is_flagged(row)]
    if len(noisy) * 5 < len(rows):
        return None
    return Finding(
        "latency",
        "warn",
        "Latency is noisy",
        f"{len(noisy)} of {len(rows)} trials have an interval above {NOISY:.0%} or were measured on a busy machine.",
        "Measure the front again on a quiet machine: paretoprune bench.",
    )


def _misleading_score(snapshot: Snapshot) -> Finding | None:
    known = [(str(row.get("name")), row.get("correlation")) for row in snapshot.get("rungs") or ()]
    low = [(name, float(tau)) for name, tau in known if tau is not None and tau < LOW_CORRELATION]
    if not low:
        return None
    names = ", ".join(f"{name} ({tau:.2f})" for name, tau in low)
    return Finding(
        "rungs",
        "warn",
        "A cheap score misleads",
        f"Its ranking agrees badly with the full measurement: {names}.",
        "Do not rely on the estimates of screened trials. The lower this correlation is, the fewer trials are "
        "screened, and below 0.4 none, so the search needs more search.hours for as many candidates.",
    )


def _stalled(snapshot: Snapshot) -> Finding | None:
    values = [point["value"] for point in snapshot.get("hypervolume") or () if point.get("value") is not None]
    if len(values) < 3 * _ENOUGH or not values[-1]:
        return None
    gain = (values[-1] - values[len(values) * 2 // 3]) / values[-1]
    if gain >= STALLED:
        return None
    return Finding(
        "stalled",
        "info",
        "The search has little left to find",
        f"The last third of the trials added {100 * gain:.1f} % to the hypervolume.",
        "Stop here, or widen the space.",
    )


def _failures(snapshot: Snapshot) -> Finding | None:
    progress = snapshot.get("progress") or {}
    failed, done = int(progress.get("failed") or 0), int(progress.get("done") or 0)
    if failed < 2 or failed < FAILING * (failed + done):
        return None
    return Finding(
        "failures",
        "warn",
        "Many trials fail",
        f"{failed} of {failed + done} trials failed.",
        "See the failures, grouped by cause.",
    )


CHECKS: tuple[Callable[[Snapshot], Finding | None], ...] = (
    _mixed_versions,
    _space_at_its_bound,
    _noisy_latency,
    _misleading_score,
    _failures,
    _flat_front,
    _noise_of_accuracy,
    _stalled,
)


def _complete(snapshot: Snapshot) -> Iterator[TrialRow]:
    return (row for row in snapshot.get("trials") or () if row.get("state") == "complete")


def _front(snapshot: Snapshot) -> list[TrialRow]:
    return [row for row in snapshot.get("trials") or () if row.get("on_front")]


def _ratio_bounds(snapshot: Snapshot) -> tuple[float, float]:
    found = ((snapshot.get("study") or {}).get("space") or {}).get("ratio") or (0.0, 0.0)
    return float(found[0]), float(found[1])


def _ratio(row: TrialRow, name: str) -> float:
    return float(((row.get("candidate") or {}).get("ratios") or {}).get(name, 0.0))


def _relative_width(row: TrialRow) -> float:
    spread, value = reading.interval(row, "latency_ms"), reading.value(row, "latency_ms")
    return (spread[1] - spread[0]) / value if spread and value else 0.0


def _is_flagged(row: TrialRow) -> bool:
    return any(str(note).startswith("latency:") for note in row.get("notes") or ())


def _listed(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
