"""Detection levels removed whole: exact against the full network without their predictions, exactly priced."""

from __future__ import annotations

import copy
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pruning import Plan, PlanError
from pruning.checkpoints.checkpoint import count_parameters, load_model
from pruning.cost_table import cost_table
from pruning.structure.level_removal import pyramid_of, remove_levels
from tests import shelf
from tests.pruning import zoo
from tests.pruning.test_cost_table import counted

MODELS = {
    "yolov8n.yaml": ("P3", "P4", "P5"),
    "yolo11n.yaml": ("P3", "P4", "P5"),
    "yolo26n.yaml": ("P3", "P4", "P5"),
    "yolov8n-seg.yaml": ("P4", "P5"),
    "yolov8n-pose.yaml": ("P3", "P4", "P5"),
    "yolov8n-obb.yaml": ("P3", "P4", "P5"),
}
MORE = {
    "yolov5n.yaml": ("P3", "P4", "P5"),
    "yolov8n-p2.yaml": ("P2", "P3", "P4", "P5"),
    "yolov9t.yaml": ("P3", "P4", "P5"),
    "yolov10n.yaml": ("P3", "P4", "P5"),
    "yolo12n.yaml": ("P3", "P4", "P5"),
    "yolo26n-pose.yaml": ("P3", "P4", "P5"),
    "yolo26n-obb.yaml": ("P3", "P4", "P5"),
    "yolo26n-seg.yaml": (),
    "yolov8n-cls.yaml": (),
    "torchvision:resnet18": (),
}


@pytest.mark.parametrize(
    ("name", "levels"), [*MODELS.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in MORE.items())]
)
def test_removed_equals_left_out_and_cost_is_exact(name: str, levels: tuple[str, ...]) -> None:
    """A level alone and two of them, together with channels and a block; in double precision."""
    graph, x = zoo.traced(name), zoo.picture().double()
    model = copy.deepcopy(zoo.build(name)).double()
    assert tuple(level.path for level in graph.levels) == levels
    whole = len(levels) and len(zoo.outputs(model(x)))
    alone = levels if name == "yolov8n.yaml" else levels[:1]
    for chosen in (*((level,) for level in alone), *list(combinations(levels, 2))[-1:]):
        plan = graph.plan(0.3, removed=(*chosen, *(block.path for block in graph.blocks[-1:])))
        small = plan.apply(model)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            found = small(x)
        with torch.no_grad():
            expected = plan.mask(model)(x)
        assert len(zoo.outputs(found)) == whole
        assert zoo.worst_difference(found, expected) < 1e-9, chosen
        assert plan.cost().params == count_parameters(small), chosen
        assert plan.cost().macs * 2 == counter.get_total_flops(), chosen


def _raw(model: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        found: dict[str, torch.Tensor] = model(x)[1]
    return found


def test_what_the_other_levels_predict_is_what_they_predicted_before() -> None:
    """At 64 px there are 64 cells of P3, 16 of P4 and 4 of P5: the masked twin is not its own witness."""
    model, graph, x = zoo.build("yolov8n.yaml"), zoo.traced("yolov8n.yaml"), zoo.picture()
    before = _raw(model, x)
    for level, places in (("P3", [*range(64, 84)]), ("P4", [*range(64), *range(80, 84)]), ("P5", [*range(80)])):
        after = _raw(graph.plan(0.0, removed=(level,)).apply(model), x)
        for name in ("boxes", "scores"):
            assert torch.allclose(after[name], before[name][..., places], atol=1e-5), (level, name)


def test_layers_that_only_fed_the_level_are_gone_and_the_rest_is_renumbered() -> None:
    small: Any = zoo.traced("yolov8n.yaml").plan(0.0, removed=("P5",)).apply(zoo.build("yolov8n.yaml"))
    head = small.model[-1]
    assert (len(small.model), head.i, head.f, head.nl, head.stride.tolist()) == (20, 19, [15, 18], 2, [8, 16])
    assert [layer.i for layer in small.model] == list(range(20)) and small.save == [4, 6, 12, 15, 18]
    assert max(small.stride) == 32, "the backbone still halves its input five times"
    assert {type(m) for m in small.modules()} == {type(m) for m in zoo.build("yolov8n.yaml").modules()}
    shallow: Any = remove_levels(copy.deepcopy(zoo.build("yolov8n.yaml")), ("P4", "P5"))
    assert (len(shallow.model), shallow.model[-1].f) == (17, [15])


def test_a_level_can_go_from_a_network_that_has_lost_another() -> None:
    model = zoo.build("yolov8n.yaml")
    twice = remove_levels(remove_levels(copy.deepcopy(model), ("P5",)), ("P4",))
    once = remove_levels(copy.deepcopy(model), ("P4", "P5"))
    with torch.no_grad():
        assert zoo.worst_difference(twice(zoo.picture()), once(zoo.picture())) == 0
    pyramid = pyramid_of(twice)
    assert pyramid is not None and pyramid.names == ("P3",) and not pyramid.removable


def test_levels_of_one_stride_are_not_told_apart() -> None:
    twins = copy.deepcopy(zoo.build("yolov8n.yaml"))
    head: Any = twins.get_submodule("model.22")
    head.stride = torch.tensor([8.0, 16.0, 16.0])
    assert pyramid_of(twins) is None


def test_what_goes_with_a_level_has_no_width_of_its_own() -> None:
    """Equal networks get equal plans: ratios of groups that only P5 needs change nothing."""
    graph = zoo.traced("yolov8n.yaml")
    gone = {graph.groups[number].name for number in graph.groups_gone_with_levels(("P5",))}
    assert "model.19" in gone and "model.18" not in gone
    inside = {name: 0.5 for name in gone if not graph.groups[graph.table.numbers[name]].frozen}
    assert graph.plan(inside, removed=("P5",)) == graph.plan({}, removed=("P5",))


def test_a_plan_with_a_level_survives_json() -> None:
    graph = zoo.traced("yolov8n.yaml")
    plan = graph.plan(0.2, removed=["P5", "model.4.m.1"])
    again = Plan.from_json(plan.to_json())
    assert again == plan and again.digest == plan.digest != graph.plan(0.2, removed=["model.4.m.1"]).digest
    assert Plan.from_json(plan.to_json().replace('"P5", ', "")).removed == ("model.4.m.1",)


@pytest.mark.parametrize(
    ("name", "levels", "why"),
    [
        ("yolov8n.yaml", ["P6"], "no removable blocks or detection levels"),
        ("yolov8n.yaml", ["P3", "P4", "P5"], "at least one must stay"),
        ("yolov8n-seg.yaml", ["P3"], "masks of this model"),
    ],
)
def test_what_cannot_go_is_refused(name: str, levels: list[str], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        zoo.traced(name).plan(0.2, removed=levels)


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolov8n-seg.yaml"])
def test_the_table_of_the_page_counts_what_the_plan_counts(name: str) -> None:
    graph = zoo.traced(name)
    table = cost_table(graph)
    names = [level.path for level in graph.levels]
    for chosen in (*combinations(names, 1), *combinations(names, 2)):
        if len(chosen) < len(graph.pyramid.names if graph.pyramid else ()):
            plan = graph.plan(0.3, removed=chosen)
            assert counted(table, plan.widths, list(chosen)) == (plan.cost().params, plan.cost().macs)


def test_a_trained_base_without_a_level_agrees_in_single_precision() -> None:
    model = load_model(Path(__file__).parents[3] / "studies" / "digits" / "yolov8n-digits.pt")
    graph = shelf.trace(model, torch.zeros(1, 3, 128, 128))
    x = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    plan = graph.plan(0.3, round_to=8, removed=("P4", "P5"))
    with torch.no_grad():
        assert zoo.worst_difference(plan.apply(model)(x), plan.mask(model)(x)) < 1e-4
