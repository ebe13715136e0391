"""The heart: for every model of the table, a plan applied equals the plan masked, and its cost is exact."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pruning import ChannelGraph, Plan
from pruning.checkpoints.checkpoint import count_parameters, load_model
from tests import shelf
from tests.pruning import zoo


@pytest.fixture(scope="module", params=zoo.FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    """Module scope: all tests of one model run together, so it is traced once."""
    return str(request.param)


def plans(graph: ChannelGraph) -> dict[str, Plan]:
    largest = max(graph.free, key=lambda group: group.size)
    return {
        "uniform": graph.plan(0.3, round_to=8),
        "random": graph.plan(zoo.random_ratios(graph, seed=1), importance="random"),
        "extreme": graph.plan(0.9),
        "one group": graph.plan({largest.name: 0.5}),
    }


def test_applied_equals_masked_and_cost_is_exact(name: str) -> None:
    """In double precision, so that only the algebra can differ: random networks amplify float32 rounding."""
    graph, x = zoo.traced(name), zoo.picture().double()
    model = copy.deepcopy(zoo.build(name)).double()
    for kind, plan in plans(graph).items():
        small, twin = plan.apply(model), plan.mask(model)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            found = small(x)
        with torch.no_grad():
            expected, original = twin(x), model(x)
        assert zoo.worst_difference(found, expected) < 1e-9, kind
        assert zoo.worst_difference(expected, original) > 1e-3, (
            f"{kind}: the mask changed nothing, so nothing is proved"
        )
        assert plan.cost().params == count_parameters(small), kind
        assert plan.cost().macs * 2 == counter.get_total_flops(), kind


def test_pruned_model_trains_a_step(name: str) -> None:
    model, graph = zoo.build(name), zoo.traced(name)
    small = graph.plan(0.5, round_to=4).apply(model).train()
    trained = [p for path, p in small.named_parameters() if "flow_model" not in path]  # a loss of its own trains it
    before = [parameter.detach().clone() for parameter in trained]
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    loss = sum(output.float().square().mean() for output in zoo.outputs(small(zoo.picture(batch=2))))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    optimizer.step()
    changed = [not torch.equal(old, new) for old, new in zip(before, trained, strict=True)]
    assert sum(changed) > 0.9 * len(changed) - 4
    with torch.no_grad():
        small.eval()(zoo.picture())


def test_nine_tenths_of_the_macs_lie_in_free_groups(name: str) -> None:
    assert zoo.traced(name).free_mac_share() >= 0.9


def test_only_true_outputs_the_input_and_their_ties_are_frozen(name: str) -> None:
    graph = zoo.traced(name)
    allowed = ("output of the model", "input of the model", "tied to a frozen group", "convolution over channels laid")
    odd = {group.name: group.frozen for group in graph.groups if group.frozen and not group.frozen.startswith(allowed)}
    assert not odd


@pytest.mark.parametrize("base", ["yolov8n-digits.pt", "yolo11n-digits.pt"])
def test_trained_models_agree_in_single_precision(base: str) -> None:
    model = load_model(Path(__file__).parents[2] / "studies" / "digits" / base)
    graph = shelf.trace(model, torch.zeros(1, 3, 128, 128))
    x = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    for seed in range(3):
        plan = graph.plan(zoo.random_ratios(graph, seed), round_to=8, removed=[b.path for b in graph.blocks[:seed]])
        with torch.no_grad():
            found, expected = plan.apply(model)(x), plan.mask(model)(x)
        assert zoo.worst_difference(found, expected) < 1e-4


def test_what_a_channel_shuffle_leaves_free_is_pruned_exactly() -> None:
    """ShuffleNet: half of the channels pass a block by, and a reshape interleaves them with the others."""
    model, graph = zoo.build("torchvision:shufflenet_v2_x0_5"), zoo.traced("torchvision:shufflenet_v2_x0_5")
    plan = graph.plan(0.5)
    small, x = plan.apply(model), zoo.picture()
    with torch.no_grad():
        assert zoo.worst_difference(small(x), plan.mask(model)(x)) < 1e-5
    assert plan.cost().params == count_parameters(small) < 0.9 * count_parameters(model)
