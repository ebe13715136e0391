"""The remembered module tree: copies share nothing that can change, and every change of the base is noticed."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pruning import PlanError, trace
from pruning.structure.module_template import SHARED, Template, TreeChanged
from tests.pruning import zoo


class Odd(nn.Module):
    """A module used twice, tied weights, a buffer, hooks, a bound method, and attributes of many kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.again = self.norm
        self.second = nn.Conv2d(8, 8, 1)
        self.third = nn.Conv2d(8, 8, 1)
        self.third.weight = self.second.weight
        self.nothing: nn.Module | None = None
        self.out = nn.Conv2d(8, 4, 1)
        self.names = {0: ["a"], 1: ["b"]}
        self.sizes = (1, [2])
        self.view = self.first.weight
        self.kept = {"module": self.norm}
        self.method = self.describe
        self.register_buffer("scale", torch.ones(()), persistent=False)
        self.calls: list[int] = []
        self.first.register_forward_hook(self.count)

    def describe(self) -> str:
        return f"{id(self)}"

    def count(self, *_: Any) -> None:
        self.calls.append(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, 4, H, W)."""
        x = self.norm(self.first(x)).relu()
        return self.out(self.again(self.second(x) + self.third(x)) * self.scale)  # type: ignore[no-any-return]


def odd() -> Odd:
    torch.manual_seed(0)
    model = zoo.seeded(Odd())
    assert isinstance(model, Odd)
    return model


X = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def mutable(value: Any, found: dict[int, Any]) -> dict[int, Any]:
    """Ids of everything inside an attribute that can change."""
    if type(value) in SHARED or (isinstance(value, tuple) and SHARED.issuperset(map(type, value))):
        return found
    found[id(value)] = value
    if isinstance(value, dict):
        value = list(value.values())
    for item in value if isinstance(value, (list, tuple)) else ():
        mutable(item, found)
    return found


def everything(model: nn.Module) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for module in model.modules():
        for value in module.__dict__.values():
            mutable(value, found)
    return found


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolov10n.yaml", "yolo26n-seg.yaml", "torchvision:resnet18"])
def test_no_attribute_that_can_change_is_shared(name: str) -> None:
    model = zoo.build(name)
    plan = zoo.traced(name).plan(0.3)
    ours, second, theirs = everything(plan.apply(model)), everything(plan.apply(model)), everything(model)
    assert ours
    assert not ours.keys() & theirs.keys() and not ours.keys() & second.keys()
    assert len(ours) == len(theirs)


def test_an_odd_model_is_copied_with_its_knots() -> None:
    model = odd()
    graph = trace(model, X)
    calls = len(model.calls)
    for _ in range(2):  # the first copy makes the template, the second uses it
        small = graph.plan(0.5).apply(model)
        assert isinstance(small, Odd)
        assert small.norm is small.again and small.kept["module"] is small.norm and small.nothing is None
        assert small.third.weight is small.second.weight and small.view is small.first.weight
        assert small.method.__self__ is small  # type: ignore[attr-defined]
        small.names[0].append("c")
        small.sizes[1].append(3)  # type: ignore[attr-defined]
        with torch.no_grad():
            assert torch.allclose(small(X), graph.plan(0.5).mask(model)(X), atol=1e-6)
        assert len(small.calls) == calls + 1, "the hook of the copy must count in the copy"
        assert "scale" in small._non_persistent_buffers_set
    assert model.names == {0: ["a"], 1: ["b"]} and model.sizes == (1, [2])


@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolo11n.yaml"])
def test_a_copy_pickles_and_deep_copies(name: str) -> None:
    small = zoo.traced(name).plan(0.4).apply(zoo.build(name))
    for again in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        with torch.no_grad():
            assert zoo.worst_difference(again(zoo.picture()), small(zoo.picture())) == 0


def test_the_graph_pickles_without_template_and_model() -> None:
    model = odd()
    graph = trace(model, X)
    graph.plan(0.5).apply(model)
    assert graph.slice_templates
    again = pickle.loads(pickle.dumps(graph))
    assert again.model is None and not again.slice_templates
    with torch.no_grad():
        scores = graph.score(model)
        assert torch.equal(again.plan(0.5, scores).apply(model)(X), graph.plan(0.5, scores).apply(model)(X))


def _hook(model: Odd) -> None:
    model.second.register_forward_hook(lambda *_: None)


def _attribute(model: Odd) -> None:
    model.note = [1]  # type: ignore[assignment]


def _grown(model: Odd) -> None:
    model.padding_mode = "x"  # type: ignore[assignment]
    model.calls = [*model.calls, 1]


def _weight(model: Odd) -> None:
    model.out.weight = nn.Parameter(model.out.weight.detach() * 2)


def _untied(model: Odd) -> None:
    model.third.weight = nn.Parameter(model.third.weight.detach() * 3)


def _child(model: Odd) -> None:
    model.nothing = nn.Identity()


def _mode(model: Odd) -> None:
    model.norm.eps = 0.5


def _stat(model: Odd) -> None:
    model.norm.running_mean = torch.full((8,), 7.0)


@pytest.mark.parametrize("change", [_hook, _attribute, _grown, _weight, _untied, _child, _mode, _stat])
def test_a_change_of_the_base_reaches_the_next_copy(change: Callable[[Odd], None]) -> None:
    model = odd()
    graph = trace(model, X)
    plan = graph.plan(0.5)
    plan.apply(model)
    change(model)
    with pytest.raises(TreeChanged):
        graph.slice_templates[0].template.clone(model)
    if change is _untied:  # one more tensor: another model than the traced one
        with pytest.raises(PlanError, match="another model"):
            plan.apply(model)
        return
    if change is _weight:  # in place from here on: what the template holds must be read anew every time
        with torch.no_grad():
            model.out.bias.fill_(5.0)  # type: ignore[union-attr]
    small = plan.apply(model)
    assert not everything(small).keys() & everything(model).keys()
    with torch.no_grad():
        assert torch.allclose(small(X), plan.mask(model)(X), atol=1e-5)
    assert [len(m._forward_hooks) for m in small.modules()] == [len(m._forward_hooks) for m in model.modules()]


def test_weights_changed_in_place_are_read_anew() -> None:
    model = odd()
    graph = trace(model, X)
    plan = graph.plan(0.5)
    before = plan.apply(model)
    template = graph.slice_templates[0].template
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
        after, expected = plan.apply(model)(X), plan.mask(model)(X)
        assert torch.allclose(after, expected, atol=1e-6) and not torch.allclose(after, before(X), atol=1e-3)
    assert graph.slice_templates[0].template is template, "a change of weights alone must not cost a new template"


def test_another_shape_behind_the_same_parameter_is_noticed() -> None:
    model = odd()
    template = Template(model)
    template.clone(model)
    model.out.weight.data = torch.zeros(5, 8, 1, 1)
    with pytest.raises(TreeChanged):
        template.clone(model)


def test_two_models_take_turns() -> None:
    first, second = odd(), odd()
    with torch.no_grad():
        second.out.weight.mul_(2)
    graph = trace(first, X)
    plan = graph.plan(0.5)
    for model in (first, second, first):
        with torch.no_grad():
            assert torch.allclose(plan.apply(model)(X), plan.mask(model)(X), atol=1e-6)


def test_empty_containers_are_each_their_own() -> None:
    model = odd()
    clone = Template(model).clone(model)
    containers = [
        v for state in clone.states for v in state.values() if type(v) in (dict, OrderedDict, set, list) and not v
    ]
    assert len(containers) > 50 and len({*map(id, containers)}) == len(containers)
