"""CMA-ES: one objective, constraints honoured, the same sequence across a resume; anything else is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from search.errors import ConfigError
from search.study import Study
from search.testing.known_front import DIMENSIONS, known_figures
from search.testing.simulated import Cut
from tests.search.conftest import MakeStudy

ONE = {"search.sampler": "cmaes", "objectives": ["map50_95"], "constraints": {"latency_ms": "<=6"}}


def _best(study: Study) -> float:
    """The highest accuracy within the constraint."""
    ranked = study.results().ranked
    return max(row["map50_95"].value for row in ranked.rows)


def _best_of_draws(count: int, seed: int) -> float:
    """What a search that only draws finds within the constraint."""
    rows = np.random.default_rng(seed).uniform(0.0, 0.8, (count, len(DIMENSIONS)))
    figures = [known_figures(dict(zip(DIMENSIONS, row.tolist(), strict=True))) for row in rows]
    return max(one["map50_95"].value for one in figures if one["latency_ms"].value <= 6)


def test_it_finds_the_best_within_the_constraint(make_study: MakeStudy) -> None:
    """The optimum by Lagrange: ratios as 6 : 3 : 2, mean 0.5 for 6 ms of 10, one of them at its bound of 0.8."""
    optimum = known_figures({"stem": 0.8, "neck": 0.42, "head": 0.28})["map50_95"].value
    found = _best(make_study(**ONE, **{"search.trials": 90}).search())
    drawn = float(np.mean([_best_of_draws(90, seed) for seed in range(20)]))
    assert optimum - found < 0.003
    assert optimum - found < 0.5 * (optimum - drawn)


def test_a_cut_repeats_the_sequence(make_study: MakeStudy, workplace: Path) -> None:
    options = {**ONE, "search.trials": 18}
    whole = [(trial.number, trial.candidate) for trial in make_study(**options).search().trials()]
    for cut_at in (3, 16):
        shutil.rmtree(workplace / "runs")
        with pytest.raises(Cut):
            make_study(cut_at=cut_at, **options).search()
        assert [(t.number, t.candidate) for t in make_study(**options).search().trials()] == whole


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, "cmaes searches for one objective, found 3"),
        ({"objectives": ["map50_95", "latency_ms"]}, "found 2"),
        ({"objectives": ["map50_95"], "space.depth": True}, "ratios only, not space.depth"),
        ({"objectives": ["map50_95"], "space.levels": ["P5"]}, "ratios only, not space.levels"),
        ({"objectives": ["map50_95"], "space.imgsz": [320, 640]}, "ratios only, not space.imgsz"),
    ],
)
def test_what_it_cannot_search_is_refused(make_study: MakeStudy, keys: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_study(**{"search.sampler": "cmaes", **keys})
