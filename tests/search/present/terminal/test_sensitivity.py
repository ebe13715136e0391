"""The table of sensitivities: of several bases one after the other."""

from __future__ import annotations

from rich.console import Console

from pruning.sensitivity import Curve
from search.present.terminal.sensitivity import render_sensitivity, sensitivity_facts


def test_the_curves_of_each_base_are_below_its_name() -> None:
    found = {
        name: sensitivity_facts("runs/prune/two", {f"{name}.part": Curve.through([(0.5, 0.01)])}, {})
        for name in ("large", "small")
    }
    console = Console(width=80)
    with console.capture() as caught:
        console.print(render_sensitivity({**found["large"], "bases": found}))
    lines = [line.strip() for line in caught.get().splitlines() if line.strip()]
    assert lines.index("large") < lines.index("small")
    assert sum(line.startswith(("large.part", "small.part")) for line in lines) == 2
    assert lines[-1] == "next: paretoprune search runs/prune/two/args.yaml"
