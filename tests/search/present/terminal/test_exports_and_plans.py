"""What is printed after a prune names the next command."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from search.present.terminal.exports_and_plans import render_steps


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
