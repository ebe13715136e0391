"""Real searches with equal wall-clock: `auto` against what people do by hand and against plain samplers.

    python studies/digits/make_data.py
    python benchmarks/search_real.py --hours 0.4                       # both bases, five methods each: ten times that
    python benchmarks/search_real.py --bases yolov8n --methods auto,uniform --hours 0.1      # a short look
    python benchmarks/search_real.py --bases bccd,pcb --methods auto,unpromoted,equal,tpe,uniform --hours 1

Every method gets the same trials (one epoch, distilled), the same worker and the same wall-clock: what `auto` spends
before its first trial, on sensitivity and probes, is taken off its time. Sweeps are left as requests, ever finer levels
first asked first. `unpromoted` is `auto` that trains no network further, `equal` is one that also gives every trial the
same epochs. The studies' budget is half of the base's latency. At the end each front is timed again by the study
itself. Printed is the best mAP50-95 of each front at 1.3 to 3 times the base's measured speed, and what is lost against
the base; 1.38 is where a published hand-made search on YOLOv8n-seg lost 24.5 % of its box mAP.

Runs lie in runs/real/BASE-METHOD-SEED and are continued, not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from search_table import sweep

from search import Callback
from search.run_folder.enqueue import MOST, leave_request
from search.run_folder.record import RunRecord
from search.study import Study
from search.trial import Trial

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ROOT / "studies"
STUDY = STUDIES / "digits" / "study.yaml"
DIGITS = STUDIES / "digits" / "data" / "data.yaml"
BASES = {
    "yolov8n": (STUDIES / "digits" / "yolov8n-digits.pt", DIGITS, 128),
    "yolo11n": (STUDIES / "digits" / "yolo11n-digits.pt", DIGITS, 128),
    "bccd": (STUDIES / "bccd" / "bases" / "bccd-yolov8n.pt", STUDIES / "bccd" / "data" / "data.yaml", 320),
    "pcb": (STUDIES / "pcb" / "bases" / "pcb-yolov8n.pt", STUDIES / "pcb" / "data" / "data.yaml", 320),
}
"""Checkpoint, data, input size in px."""
METHODS = ("auto", "uniform", "global", "random", "tpe")
SWEEPS = ("uniform", "global")
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "unpromoted": {"search": {"promote": False}},
    "equal": {"search": {"promote": False}, "recover": {"spend": "equal"}},
}
"""Kinds of `auto`."""
SPEEDS = (1.3, 1.38, 1.6, 2.0, 3.0)
LEVELS = 500
ONLY_AUTO = ("sensitivity", "probes", "variants")
"""Phases of the preparation that other samplers do without."""


def study_of(base: str, method: str, seed: int, hours: float, project: Path) -> Study:
    """The digits study with this base, searched by one method."""
    model, data, imgsz = BASES[base]
    variant = VARIANTS.get(method, {})
    sampler = "random" if method in SWEEPS else "auto" if method in VARIANTS else method
    search = {"sampler": sampler, "hours": hours, "trials": 10_000, "seed": seed}
    return Study(
        STUDY,
        model=str(model),
        data=str(data),
        imgsz=imgsz,
        name=f"{base}-{method}-{seed}",
        project=str(project),
        baselines=[],
        budgets={"half": {"latency_ms": "50%"}},
        search=search | variant.get("search", {}),
        space={"groups": "each" if method in SWEEPS else "auto"},
        recover={"epochs": 1} | variant.get("recover", {}),
        latency={"seconds": 3},
    )


def searched(base: str, method: str, seed: int, hours: float, project: Path) -> Study:
    """One search, to its end."""
    study = study_of(base, method, seed, hours, project)
    before = _finished(study.record)
    if before is not None:
        return before
    prepared = study.prepare([Printing()])
    if method in SWEEPS and not study.trials():
        for candidate in itertools.islice(sweep(method, prepared, LEVELS), MOST):  # hours more than a search has
            leave_request(study.record.path, candidate)
    spent = sum(prepared.base.seconds.get(phase, 0.0) for phase in ONLY_AUTO)
    return study_of(base, method, seed, hours - spent / 3600, project).search([Printing()])


def _finished(record: RunRecord) -> Study | None:
    if not record.args_path.is_file() or not (record.read_ending() or {}).get("closed"):
        return None
    return Study.load(record.path)


class Printing(Callback):
    """A line for each note and each trial."""

    def on_note(self, study: Study, text: str) -> None:
        print(f"  {text}", flush=True)

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        figures = {} if trial.measurement is None else trial.measurement.figures
        shown = " ".join(f"{n} {figures[n].value:.3f}" for n in ("map50_95", "latency_ms") if n in figures)
        print(f"  {trial.number:3d} {trial.source:14s} {trial.state.value:9s} {shown}", flush=True)


def row_of(study: Study, base: str, method: str, seed: int) -> dict[str, Any]:
    """What the table says of one search."""
    reference = study.base()
    assert reference is not None
    base_ms, base_map = (reference.figures[name].value for name in ("latency_ms", "map50_95"))
    points = [
        (base_ms / trial.measurement.figures["latency_ms"].value, trial.measurement.figures["map50_95"].value)
        for trial in study.results().ranked.trials
        if trial.measurement is not None and (method not in SWEEPS or trial.source == "user")
    ]
    best = {str(speed): max((map_ for fast, map_ in points if fast >= speed), default=0.0) for speed in SPEEDS}
    return {
        "base": base,
        "method": method,
        "seed": seed,
        "base_ms": base_ms,
        "base_map": base_map,
        "trials": len(points),
        "best": best,
        "points": sorted(points),
    }


def said(rows: Sequence[dict[str, Any]]) -> str:
    """The table of each base, and whether what was asked for is met."""
    lines: list[str] = []
    for base in dict.fromkeys(row["base"] for row in rows):
        own = [row for row in rows if row["base"] == base]
        lines += [
            f"{base}: {own[0]['base_map']:.3f} mAP50-95 at {own[0]['base_ms']:.2f} ms",
            "",
            "| method | trials | " + " | ".join(f"{speed:g} times" for speed in SPEEDS) + " |",
            "|---|---|" + "---|" * len(SPEEDS),
        ]
        for row in own:
            cells = [f"{row['best'][str(s)]:.3f} ({row['best'][str(s)] - row['base_map']:+.3f})" for s in SPEEDS]
            lines.append(f"| {row['method']} | {row['trials']} | " + " | ".join(cells) + " |")
        lines += ["", *_verdicts(own), ""]
    return "\n".join(lines)


def _verdicts(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    by_method = {row["method"]: row for row in rows}
    if not {"auto", "uniform"} <= by_method.keys():
        return
    for speed in map(str, SPEEDS):
        lost = {name: max(0.0, row["base_map"] - row["best"][speed]) for name, row in by_method.items()}
        half = lost["auto"] <= lost["uniform"] / 2
        ahead = min(lost, key=lost.__getitem__)
        best = lost["auto"] <= lost[ahead] + 1e-9
        yield (
            f"- {speed} times: {'met' if half else '**missed**'}: `auto` loses {lost['auto']:.3f}, the uniform sweep "
            f"{lost['uniform']:.3f}; {'no method is ahead' if best else f'**{ahead} is ahead** ({lost[ahead]:.3f})'}"
        )
    share = max(0.0, 1 - by_method["auto"]["best"]["1.38"] / by_method["auto"]["base_map"])
    met = "met" if share <= 0.05 else "**missed**"
    yield f"- {met}: at 1.38 times the speed `auto` loses {100 * share:.1f} % (at most 5 %)"


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Fronts of all methods, a panel for each base."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bases = list(dict.fromkeys(row["base"] for row in rows))
    figure, panels = pyplot.subplots(1, len(bases), figsize=(4.4 * len(bases) + 0.6, 4.0), squeeze=False)
    for axes, base in zip(panels[0], bases, strict=True):
        own = [row for row in rows if row["base"] == base]
        for row in own:
            front = _front(row["points"])
            line = axes.step(*zip(*front, strict=True), where="pre", label=row["method"]) if front else [None]
            color = line[0].get_color() if line[0] else None
            axes.scatter(*zip(*row["points"], strict=True), s=9, alpha=0.5, color=color)
        axes.axhline(own[0]["base_map"], color="grey", linewidth=0.8, linestyle=":")
        axes.set_title(base)
        axes.set_xlabel("speed, times the base's")
        axes.set_xlim(0.9, 3.0)
        axes.grid(alpha=0.25)
    panels[0][0].set_ylabel("mAP50-95")
    panels[0][0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The best accuracy at each speed or more, by rising speed."""
    front: list[tuple[float, float]] = []
    for speed, value in sorted(points, reverse=True):
        if not front or value > front[-1][1]:
            front.append((speed, value))
    return front[::-1]


def main() -> int:
    """Search, then say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", type=lambda text: text.split(","), default=["yolov8n", "yolo11n"])
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--hours", type=float, default=0.4, help="of each search, preparation of `auto` included")
    parser.add_argument("--project", type=Path, default=ROOT / "runs" / "real")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    rows = []
    for base in asked.bases:
        for seed in range(asked.seeds):
            for method in asked.methods:
                print(f"{base} {method} seed {seed}", flush=True)
                study = searched(base, method, seed, asked.hours, asked.project)
                rows.append(row_of(study, base, method, seed))
                if asked.json:
                    asked.json.write_text(json.dumps(rows, indent=1))
    print(said(rows))
    if asked.picture:
        draw(rows, asked.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
