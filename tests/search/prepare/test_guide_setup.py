"""What a study's budgets let allocation aim at."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from objectives.image_size import Size, written
from objectives.objective import Estimate
from objectives.weights import kernel_weights
from search.config.sections import FigureSpec
from search.config.spec import StudySpec, load_spec
from search.evaluate.timing.progress import Phases
from search.prepare import guide_setup
from search.prepare.guide_setup import limits_of, probe_seconds, targets_of, variants_of
from search.propose.allocation import PLANNED
from search.trial import Measurement
from tests.pruning import zoo

BASE = Measurement(
    {
        "map50_95": Estimate.exact(0.6),
        "latency_ms": Estimate.exact(2.0),
        "params_m": Estimate.exact(3.0),
        "macs_g": Estimate.exact(1.0),
        "size_mb": Estimate.exact(12.05),
    }
)


BUDGETS = {
    "edge": {"latency_ms": 1.0},
    "flash": {"size_mb": 4.9, "params_m": 2.4},
    "both": {"latency_ms": 1.0, "macs_g": 0.5},
    "easy": {"latency_ms": 3.0, "params_m": 4.0},
    "fine": {"map50_95": 0.5},
}


def limits(spec: StudySpec) -> list[tuple[float | None, float | None, float | None]]:
    found = limits_of(spec, BASE, zoo.traced("yolov8n.yaml"))
    return [(one.cost, one.params, one.macs) for one in found if one is not None]


def test_budgets_become_shares_of_the_base(workplace: Path) -> None:
    """Of latency with a margin, since it is predicted; of a file without what is no weight; what the base keeps is no
    limit."""
    spec = load_spec(workplace / "study.yaml", {"budgets": BUDGETS})
    assert targets_of(spec, BASE) == (0.485,)
    assert limits(spec) == [(None, 0.4016, None), (0.485, None, 0.5)]


def test_a_ceiling_of_weights_is_one_of_parameters(workplace: Path) -> None:
    """Of a plan that keeps it kernels are fewer still: biases and norms shrink with the root of them."""
    graph = zoo.traced("yolov8n.yaml")
    full, small = zoo.build("yolov8n.yaml"), graph.plan(0.5, "l2", 8)
    base = Measurement({**BASE.figures, "weights_mb": Estimate.exact(kernel_weights(full) / 1e6)})
    spec = load_spec(workplace / "study.yaml", {"constraints": {"weights_mb": 1.0}})
    (found,) = limits_of(spec, base, graph)
    assert found is not None and found.params == pytest.approx(1e6 / kernel_weights(full), abs=1e-4)
    share = small.cost().params / graph.cost().params
    assert kernel_weights(small.apply(full)) / kernel_weights(full) < share


def test_constraints_hold_for_every_budget(workplace: Path) -> None:
    """A trial that breaks one is never picked; and they are aimed at themselves."""
    spec = load_spec(workplace / "study.yaml", {"budgets": BUDGETS, "constraints": {"params_m": "<=1"}})
    assert targets_of(spec, BASE) == ()
    third = 0.3333
    assert limits(spec) == [(None, third, None), (0.485, third, None), (0.485, third, 0.5)]


def test_an_end_to_end_limit_is_one_of_the_network_in_it(workplace: Path) -> None:
    """Pruning changes nothing before and after the network: 1 of 3 ms here. The tighter limit counts."""
    base = replace(BASE, figures={**BASE.figures, "e2e_ms": Estimate.exact(3.0)})
    budgets = {"edge": {"e2e_ms": 2.0}, "both": {"e2e_ms": 2.0, "latency_ms": 0.5}, "never": {"e2e_ms": 0.9}}
    spec = load_spec(workplace / "study.yaml", {"budgets": budgets})
    assert targets_of(spec, base) == (1e-4, PLANNED * 0.25, PLANNED * 0.5)
    half = load_spec(workplace / "study.yaml", {"budgets": {"edge": {"e2e_ms": "50%"}}})
    assert targets_of(half, base) == (PLANNED * 0.25,)
    own = half.model_copy(update={"figures": {"e2e_ms": FigureSpec(unit="ms", direction="min")}})
    assert targets_of(own, base) == (), "what a task of one's own calls so is another figure"


def test_a_probe_is_shorter_than_what_a_trial_is_ranked_by() -> None:
    assert [probe_seconds(limit) for limit in (1.0, 3.0, 6.0, 60.0)] == [0.5, 1.5, 1.5, 15.0]


@pytest.mark.parametrize(("own_size", "lower"), [(640, 320), ((384, 640), (192, 320))])
def test_an_input_size_is_held_against_the_base_in_the_studys_own_precision(
    own_size: Size, lower: Size, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what INT8 loses would look like a merit of every size but the study's own."""
    sizes = {"imgsz": own_size, "space.imgsz": [own_size, lower], "space.precision": ["int8"]}
    spec = load_spec(workplace / "study.yaml", sizes)
    graphs = {
        size: SimpleNamespace(cost=lambda macs=macs: SimpleNamespace(macs=macs))
        for size, macs in ((own_size, 640), (lower, 320))
    }
    subject: Any = SimpleNamespace(spec=spec, run=tmp_path, graphs=graphs, device="cpu")
    gain: Any = SimpleNamespace(name="map50_95", share=lambda value: value / 0.5)
    found = {
        precision: SimpleNamespace(figures={"map50_95": Estimate.exact(v)})
        for precision, v in (("fp32", 0.4), ("int8", 0.3))
    }
    monkeypatch.setattr(guide_setup, "accuracy_of", lambda *_, **__: found["fp32"])
    monkeypatch.setattr(guide_setup, "accuracy_as_shipped", lambda plain, model, spec, *_: found[spec.precision])
    phase = Phases(tmp_path)
    with phase("variants"):
        own, small = variants_of(subject, gain, phase)
    assert (own.imgsz, own.precision, own.cost, own.share) == (own_size, "int8", 1.0, 1.0)
    assert (small.imgsz, small.precision, small.cost, small.share) == (lower, "int8", 0.5, 0.6)
    assert json.loads((tmp_path / "sensitivity" / "variants.json").read_text()) == {str(written(lower)): [0.5, 0.6]}
    with phase("variants"):
        assert variants_of(subject, gain, phase) == (own, small), "read again"
