"""Two real bases in one study: each prepared as a run of its own, all compared with the first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from objectives.objective import Estimate
from search.commands.prune.finetune import finetune
from search.errors import ConfigError
from search.evaluate.evaluator import EvaluatorByBase
from search.prepare.preflight import check_same_outputs
from search.prepare.prepare import joined
from search.prepare.prepared import Prepared
from search.space import JointSpace
from search.study import Study
from search.testing.known_bases import ScaledEvaluator
from search.testing.known_front import KnownFrontEvaluator, known_base, known_guide, known_space
from search.trial import Candidate, TrialState
from tests.search.two_bases import make_two_bases

BASE = replace(known_base(), figures={**known_base().figures, "macs_g": Estimate.exact(1.0)})


def test_the_parts_of_each_base_are_joined() -> None:
    small = ScaledEvaluator(0.5, 0.9)
    parts = [
        Prepared(KnownFrontEvaluator(), known_space(), BASE, notes=("noisy",), guide=known_guide()),
        Prepared(small, known_space(), small.scaled(BASE), notes=("quiet",), guide=known_guide()),
    ]
    found = joined(parts, ("large", "small"))
    assert isinstance(found.evaluator, EvaluatorByBase) and found.base == BASE
    assert found.searched == JointSpace((known_space(), known_space())) and found.space == known_space()
    assert found.notes == ("large: noisy", "small: quiet")
    assert found.guide is not None and [candidate.base for candidate in found.guide.opening()[:4]] == [0, 1, 0, 1]
    assert found.final is None, "these measure nothing after the search"
    one = Candidate({"stem": 0.2, "neck": 0.1, "head": 0.0})
    assert len({found.evaluator.pruned(one).key, found.evaluator.pruned(Candidate(one.ratios, base=1)).key}) == 2


def test_without_the_guide_of_one_base_there_is_none() -> None:
    parts = [Prepared(KnownFrontEvaluator(), known_space(), BASE, guide=guide) for guide in (known_guide(), None)]
    assert joined(parts, ("large", "small")).guide is None


def test_loaded_bases_of_other_classes_are_refused(workplace: Path) -> None:
    class Model:
        task = "detect"

        def __init__(self, *names: str) -> None:
            self.names = dict(enumerate(names))

    (workplace / "small.pt").write_bytes(b"weights")
    spec = Study(model=["best.pt", "small.pt"], data="data.yaml").spec
    check_same_outputs(spec, Model("a", "b"), Model("a", "b"), 1)
    with pytest.raises(ConfigError, match=r"best\.pt is a model whose class 1 is b, small\.pt one where it is c"):
        check_same_outputs(spec, Model("a", "b"), Model("a", "c"), 1)


@pytest.mark.slow
def test_a_search_over_two_widths(tmp_path: Path) -> None:
    """Random, since untrained networks have no accuracy to guide by; resumed, and finetuned from its own base."""
    models, data = make_two_bases(tmp_path)
    keys = {
        "imgsz": 64, "name": "two", "project": str(tmp_path / "runs"), "device": "cpu", "baselines": ["int8"],
        "search.sampler": "random", "recover.epochs": 0, "latency.seconds": 0.3, "keep.weights": "all",
    }  # fmt: skip
    study = Study(model=models, data=data, **keys, **{"search.trials": 3}).search()
    study = Study.load(study.record.path, **{"search.trials": 4}).search()
    places = {trial.candidate.base: trial for trial in study.trials() if trial.state == TrialState.COMPLETE}
    assert places.keys() == {0, 1} and len(study.trials()) == 4
    wide, narrow = study.results().bases
    assert narrow.figures["latency_ms"].low < narrow.figures["latency_ms"].high, "measured beside the first"
    assert wide.figures["params_m"].value > 3 * narrow.figures["params_m"].value > 0
    assert places[1].figures["params_m"].value < narrow.figures["params_m"].value
    assert (study.record.path / "bases" / "2" / "base" / "base.json").is_file()
    rows = {row["name"] for row in study.snapshot()["baselines"]}
    assert {"unpruned narrow", "wide in INT8", "narrow in INT8"} <= rows
    picked = study.trial(places[1].number)
    assert picked.spec.model == models[1]
    assert finetune(picked, {"epochs": 1, "batch": 8}).figures.keys() >= {"map50_95"}
