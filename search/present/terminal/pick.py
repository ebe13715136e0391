"""Terminal output of `pick` and `finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.deliver.picked_trial import PickedTrial
from search.present.terminal.columns import plain_table
from search.present.terminal.exports_and_plans import unchanged
from search.results.snapshot import current_snapshot
from search.results.snapshot_reader import base, describe, difference, printed, value


def render_picked(facts: Mapping[str, Any], picked: PickedTrial) -> RenderableType:
    """Render sentence, figures beside the base's, and the next commands."""
    rows: list[RenderableType] = [Text(facts["sentence"]), Text(), figures_table(picked, facts["figures"])]
    if len(picked.results.spec.models) > 1:
        rows.insert(1, Text(f"It was pruned from {picked.results.spec.base_names[picked.place]}."))
    rows += [Text(), Text(facts["note"] or f"written to {facts['folder']}")]
    rows.append(Text(f"next: paretoprune export {picked.ref} format=onnx"))
    return Group(*rows)


def render_finetuned(facts: Mapping[str, Any], picked: PickedTrial) -> RenderableType:
    """Render figures of the fine-tuned model beside the base's."""
    return Group(figures_table(picked, facts["figures"]), Text(f"\nwritten to {facts['model']}{unchanged(facts)}"))


def figures_table(picked: PickedTrial, figures: Mapping[str, Mapping[str, float]]) -> Table:
    """Return a table of figure, value with interval, base, difference."""
    content = current_snapshot(picked.results)
    table = plain_table("figure", numbers=("value", "95 % interval", "base", "difference"))
    for name, found in figures.items():
        figure, before = describe(content, name), value(base(content), name)
        exact = found["low"] == found["high"]
        interval = "exact" if exact else f"{printed(figure, found['low'])} to {printed(figure, found['high'])}"
        cells = (printed(figure, found["value"]), interval, printed(figure, before))
        table.add_row(Text(figure.heading), *cells, difference(figure, found["value"], before))
    return table
