"""What is printed after a prune names the next command."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from pruning.recovery import repair
from search.present.terminal.exports_and_plans import render_steps, unchanged


def said(facts: dict[str, Any]) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(render_steps(facts))
    return captured.get()


def test_a_model_that_was_pruned_in_steps_is_fine_tuned_next_and_a_base_that_stayed_is_not() -> None:
    row = {"step": 0, "ratio": 0.0, "figure": "map50_95", "metric": 0.5, "drop": 0.0, "params_m": 3.0, "macs_g": 4.0}
    steps = [{**row, "accepted": True}, {**row, "step": 1, "accepted": True}]
    facts = {"steps": steps, "model": "out/pruned.pt", "table": "out/steps.csv"}
    facts |= {"base": "my best.pt", "data": "cells/data.yaml"}
    assert "next: paretoprune finetune out/pruned.pt data=cells/data.yaml 'base=my best.pt'" in said(facts)
    steps[1]["accepted"] = False
    assert "next:" not in said(facts) and "the first step fell too far" in said(facts)


@pytest.mark.parametrize(("tuned", "corrected", "is_unchanged"), [(True, False, False), (False, True, True)])
def test_only_a_fine_tune_that_was_thrown_away_leaves_the_weights(
    tuned: bool, corrected: bool, is_unchanged: bool
) -> None:
    """Statistics that were not corrected a second time are no reason to say that nothing was gained."""
    steps = [
        {"step": repair.STATISTICS, "kept": True},
        {"step": repair.FINE_TUNE, "kept": tuned},
        {"step": repair.STATISTICS_AGAIN, "kept": corrected},
    ]
    assert bool(unchanged({"repair": steps})) is is_unchanged
    assert not unchanged({"repair": []})
