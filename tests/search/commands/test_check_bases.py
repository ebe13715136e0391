"""What `check` says of several bases: which can meet a budget, and with how much cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from search.commands.check import _rough_cut, check
from search.config.spec import load_spec
from search.present.terminal.check import render_check
from tests.search.two_bases import make_two_bases

FIGURES = {"latency_ms": (10.0, 2.0), "macs_g": (4.0, 1.0)}


@pytest.mark.parametrize(("limit", "cut"), [(10.0, None), (6.0, 0.375), (2.0, 0.75), (1.0, None), (None, None)])
def test_a_cut_lies_on_the_line_between_base_and_smallest(limit: float | None, cut: float | None) -> None:
    assert _rough_cut(FIGURES, limit) == (None if cut is None else pytest.approx(cut))


def _said(*budgets: dict[str, Any]) -> str:
    """What is printed of one budget of as many bases."""
    full = [{"limits": ["latency_ms<=5"], **budget} for budget in budgets]
    reach = {"latency_ms": {"base": 10.0, "least": 2.0}}
    bases = [{"name": f"base{n}", "reach": reach, "budgets": {"edge": budget}} for n, budget in enumerate(full)]
    facts = {
        "environment": {}, "left_out": [], "groups": [], "dimensions": {}, "depth": False, "unsupported": [],
        "reach": reach, "budgets": {"edge": full[0]}, "bases": bases, "time": None,
    }  # fmt: skip
    console = Console(width=200, record=True, quiet=True)
    with console.capture():
        console.print(render_check(facts))
    console = Console(width=200)
    with console.capture() as caught:
        console.print(render_check(facts))
    return caught.get()


def test_each_base_has_a_line_below_the_budget() -> None:
    unpruned = {"reachable": True, "by_base": True, "forecast": None, "cut": None}
    never = {"reachable": False, "by_base": False, "forecast": None, "cut": None}
    rough = {"reachable": True, "by_base": False, "forecast": None, "cut": 0.42}
    latency = {"value": 4.9, "low": 4.8, "high": 5.0}
    told = {"latency_ms": latency, "params_m": 5.1, "known": True, "cut": {"params": 0.54, "macs": 0.5}}
    said = _said(rough, unpruned, never, {**rough, "forecast": told})
    assert "edge (latency_ms<=5):" in said and "base1, a further base" in said
    assert "base0: can be met with about 42 % fewer MACs" in said
    assert "base1: is within it as it is" in said
    assert "base2: cannot be met, even by the smallest candidate" in said
    assert "base3: predicted 4.9 ms (± 0.1) with 5.1 M parameters, 54 % fewer" in said


@pytest.mark.slow
def test_real_bases_are_timed_on_one_scale(tmp_path: Path) -> None:
    """The first one has the name of what is timed beside it: it is not compared with itself for that."""
    models, data = make_two_bases(tmp_path)
    models[0] = str(Path(models[0]).rename(tmp_path / "smallest.pt"))
    keys = {"imgsz": 64, "latency.seconds": 0.3, "budgets": {"half": {"latency_ms": "60%"}}, "recover.epochs": 0}
    spec = load_spec(None, {"model": models, "data": data, "project": str(tmp_path / "runs"), **keys})
    facts = check(spec)
    wide, narrow = (base["reach"] for base in facts["bases"])
    assert wide == facts["reach"] and narrow["params_m"]["base"] < wide["params_m"]["base"] / 3
    assert narrow["latency_ms"]["base"] < wide["latency_ms"]["base"]
    assert wide["size_mb"]["least"] < wide["size_mb"]["base"] / 2
    limits = {base["name"]: base["budgets"]["half"]["limits"] for base in facts["bases"]}
    assert limits["smallest"] == limits["narrow"], "a share is one of the first base's"
