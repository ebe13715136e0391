"""Small tables of the command line: runs, exported artefacts, one pruned model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from objectives.image_size import written
from search.export.report import ArtefactCheck, ExportReport
from search.present.terminal.columns import Column, plain_table

FINE_TUNE = "fine-tune"
"""The step of a repair (`pruning.recovery.repair`, which needs PyTorch) that changes weights."""


def render_runs(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Render name, state, trials and front of runs."""
    if not found:
        return Text("no runs in runs/prune\nnext: paretoprune search study.yaml")
    table = _table("run", "state", "trials", "front")
    for row in found:
        table.add_row(
            Text(row["name"]), row["state"], f"{row['done'] or 0}/{row['total'] or '?'}", str(row["front"] or 0)
        )
    return table


def render_export(made: ExportReport, folder: Path) -> RenderableType:
    """Render one row per artefact, then unchecked and undelivered ones with reasons."""
    table = _table("artefact", "size", f"{made.metric}", "drop", "latency", "of base", "memory", "checks")
    for check in made.artefacts:
        table.add_row(Text(check.path or check.label), *_export_cells(check, made.metric))
    remarks = [
        f"{check.label}: {said}"
        for check in made.artefacts
        for said in (*check.faults, *check.unchecked, *check.remarks)
    ]
    said = [Text(line) for line in (*made.notes, *remarks)]
    shape = "square" if isinstance(made.imgsz, int) else written(made.imgsz)
    accuracy = (
        f"{made.metric} of the model, on {shape} images as the artefacts get them: {made.accuracy[made.metric]:.4f}"
    )
    return Group(table, Text(f"\n{accuracy}"), *said, Text(f"written to {folder}"))


def _export_cells(check: ArtefactCheck, metric: str) -> tuple[str, ...]:
    timed, memory, figure = check.latency, check.memory, check.accuracy.get(metric)
    return (
        f"{check.size_bytes / 1e6:.2f} MB" if check.size_bytes else "-",
        "-" if figure is None else f"{figure:.4f}",
        "-" if check.drop is None else f"{check.drop:+.4f}",
        "-" if timed is None else f"{timed['p50_ms']:.2f} ms",
        "-" if timed is None else f"{timed['ratio']['value']:.2f}",
        "-" if memory is None else f"{memory['peak_mb']:.0f} MB",
        "not delivered" if not check.passed else "passed" if check.parity else "not checked here",
    )


def render_pruned(facts: Mapping[str, Any]) -> RenderableType:
    """Render parameters and MACs before and after."""
    table = _table("figure", "before", "after", "difference")
    for name, unit in (("params_m", "M"), ("macs_g", "G")):
        before, after = facts[name]["before"], facts[name]["after"]
        share = f"{100 * (after / before - 1):+.0f} %"
        table.add_row(name, f"{before:.3f} {unit}", f"{after:.3f} {unit}", share)
    if facts["removed"]:
        table.add_row("removed", "", "", f"without {', '.join(facts['removed'])}")
    note = "not fine-tuned yet: what was lost comes back when it is"
    note += f"\n{_then_finetune(facts)}"
    return Group(table, Text(f"\nwritten {facts['model']} and {facts['plan']}\n{note}"))


def render_groups(facts: Mapping[str, Any]) -> RenderableType:
    """Render one row per tried group."""
    table = _table("group", "channels", facts["groups"][0]["figure"], "fall", "params", "MACs", "")
    for row in facts["groups"]:
        widths = f"{row['before']} to {row['width']}" if row["group"] else ""
        cells = (widths, f"{row['metric']:.4f}", f"{row['drop']:+.4f}")
        sizes = (f"{row['params_m']:.3f} M", f"{row['macs_g']:.3f} G")
        table.add_row(Text(row["group"] or "as it was"), *cells, *sizes, "" if row["accepted"] else "left whole")
    done = [row for row in facts["groups"][1:] if row["accepted"]]
    said = f"{len(done)} of {len(facts['groups']) - 1} groups: {sum(row['before'] for row in done)} channels to "
    said += f"{sum(row['width'] for row in done)}"
    made = f"written {facts['model']} and {facts['table']}"
    return Group(table, Text(f"\n{said}\n{made}\n{_then_finetune(facts)}"))


def render_masked(facts: Mapping[str, Any]) -> RenderableType:
    """Render the sparsity before and after."""
    table = _table("figure", "before", "after")
    table.add_row("sparsity", *(f"{100 * facts['sparsity'][key]:.2f} %" for key in ("before", "after")))
    note = f"{facts['mask']} masks in {facts['layers']} layers; zeros make a dense kernel no faster"
    return Group(table, Text(f"\nwritten {facts['model']}\n{note}\n{_then_finetune(facts)}"))


def render_tuned(facts: Mapping[str, Any]) -> RenderableType:
    """Render accuracy and sparsity before and after a fine-tune."""
    table = _table("figure", "before", "after", "difference")
    figures = facts["figures"]
    for name, value in figures["after"].items():
        before = figures["before"][name]
        table.add_row(name, f"{before:.4f}", f"{value:.4f}", f"{value - before:+.4f}")
    before, after = (f"{100 * facts['sparsity'][key]:.2f} %" for key in ("before", "after"))
    table.add_row("sparsity", before, after, "kept" if facts["mask"] else "")
    return Group(table, Text(f"\nwritten {facts['model']}{unchanged(facts)}{_new_classes(facts['classes'])}"))


def _new_classes(found: Mapping[str, Any] | None) -> str:
    """Return a sentence on what was changed for other classes, else nothing."""
    if found is None:
        return ""
    if found["layers"] == "reordered":
        return "\nThe classes are in another order: the weights of the class layers went with their names"
    if found["layers"] == "kept":
        return "\nClasses have other names: the weights of the class layers were kept by their numbers"
    kept = f"; the weights of {', '.join(found['kept'])} were kept" if found["kept"] else ""
    return (
        f"\n{len(found['after'])} classes instead of {len(found['before'])}: the class layers are new{kept}. All other "
        "widths are as they were"
    )


def unchanged(facts: Mapping[str, Any]) -> str:
    """Return a sentence if a fine-tune ended below its start, else nothing; other steps of the repair do not count."""
    if all(step["kept"] for step in facts["repair"] if step["step"] == FINE_TUNE):
        return ""
    return "\nno epoch was better than the start on the validation split: the weights are as they were"


def render_steps(facts: Mapping[str, Any]) -> RenderableType:
    """Render one row per step."""
    table = _table("step", "channels gone", facts["steps"][0]["figure"], "fall", "params", "MACs", "")
    for row in facts["steps"]:
        cells = (f"{100 * row['ratio']:.1f} %", f"{row['metric']:.4f}", f"{row['drop']:+.4f}")
        sizes = (f"{row['params_m']:.3f} M", f"{row['macs_g']:.3f} G")
        table.add_row(str(row["step"]), *cells, *sizes, "" if row["accepted"] else "beyond max_drop")
    kept = [row for row in facts["steps"] if row["accepted"]][-1]
    what = f"step {kept['step']}" if kept["step"] else "the base as it was: the first step fell too far"
    next_ = f"\n{_then_finetune(facts)}" if kept["step"] else ""
    return Group(table, Text(f"\nwritten {facts['model']} ({what}) and {facts['table']}{next_}"))


def _then_finetune(facts: Mapping[str, Any]) -> str:
    data, base = facts.get("data", "data.yaml"), facts["base"]
    return "next: " + shlex.join(["paretoprune", "finetune", facts["model"], f"data={data}", f"base={base}"])


def _table(*headings: str) -> Table:
    return plain_table(*(Column(heading, overflow="fold") for heading in headings))
