"""Layers that are solved for: unchanged where nothing was pruned, exact where the rest can say what was removed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import RTDETRDecoder

import pruning
from pruning import Plan
from pruning.checkpoints.checkpoint import load_model
from pruning.recovery.bn_calibration import BaseMoments, calibration_batches, match_statistics
from pruning.recovery.reconstruction import BaseOutputs, LayerSolver, Ridge, reconstruct, solvable
from pruning.recovery.repair import Origin, is_sliced
from pruning.sensitivity import OutputDivergence
from studies.digits.make_data import make_data
from tests import shelf
from tests.pruning import zoo

DIGITS = Path(__file__).parents[3] / "studies" / "digits" / "yolov8n-digits.pt"
NAMES = (
    *("yolov8n.yaml", "yolov8n-cls.yaml", "torchvision:resnet18"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("yolo11n.yaml", "yolo12n.yaml", "yolo26n-seg.yaml")),
)


def solved(base: nn.Module, plan: Plan, images: Tensor) -> tuple[nn.Module, int]:
    small = plan.apply(base)
    return small, reconstruct(small, plan, BaseOutputs(base, images))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_plan_changes_no_weight(name: str) -> None:
    base = zoo.calibrated(name)
    before = copy.deepcopy(base.state_dict())
    small, changed = solved(base, zoo.traced(name).plan(0.0), zoo.picture(4, 1))
    assert changed == 0
    assert all(torch.equal(before[key], value) for key, value in small.state_dict().items())
    assert all(torch.equal(before[key], value) for key, value in base.state_dict().items()), "the base is only read"


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_finds_itself_in_the_base(name: str) -> None:
    """Also where removed blocks rename the later ones."""
    base, graph = zoo.calibrated(name), zoo.traced(name)
    plan = graph.plan(0.3, round_to=4, removed=[block.path for block in graph.blocks[:1]])
    layers = dict(base.named_modules())
    small, outputs = plan.apply(base), BaseOutputs(base, zoo.picture(2, 1))
    origins = outputs.origins(plan)
    assert len(origins) > 10
    for path, (origin, kept) in origins.items():
        layer, own = small.get_submodule(path), layers[origin]
        assert isinstance(layer, nn.Conv2d | nn.Linear) and type(layer) is type(own)
        assert len(layer.weight) == len(kept)
        assert isinstance(own.weight, Tensor)
        for row, candidates in zip(layer.weight.flatten(1), own.weight[kept].flatten(1), strict=True):
            assert set(row[:1].tolist()) & set(candidates.tolist()), path


class Doubled(nn.Module):
    """Its second half of channels says a quarter of what the first half says."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.second, self.last = nn.Conv2d(16, 8, 3, stride=2, padding=1), nn.Linear(8, 5)
        with torch.no_grad():
            self.first.weight[8:] = self.first.weight[:8] / 4
        self.norm.running_var.fill_(0.3)  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(torch.relu(self.second(torch.relu(self.norm(self.first(x))))).mean((2, 3)))
        return found


def test_what_the_channels_that_are_left_can_say_is_said() -> None:
    torch.manual_seed(0)
    base, images = Doubled().eval(), torch.rand(16, 3, 24, 24)
    graph = pruning.trace(base, torch.zeros(1, 3, 24, 24))
    (name,) = (group for group, width in graph.plan(0.0).widths.items() if width == 16)
    plan = graph.plan({name: 0.5})
    sliced = plan.apply(base)
    small, changed = solved(base, plan, images)
    other = torch.rand(4, 3, 24, 24)
    with torch.no_grad():
        was, now = (float((model(other) - base(other)).abs().max()) for model in (sliced, small))
    assert changed and torch.equal(small.get_parameter("first.weight"), sliced.get_parameter("first.weight"))
    assert now < 0.1 * was


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 4, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(2, 1)),
        nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Linear(6, 4),
    ],
    ids=["oblong", "grouped", "depthwise", "linear"],
)
def test_weights_are_found_from_inputs_and_outputs(layer: nn.Conv2d | nn.Linear) -> None:
    inputs = torch.randn(32, 8, 12, 14)[:, : layer.in_channels] if isinstance(layer, nn.Conv2d) else torch.randn(64, 6)
    whole = nn.Sequential(layer).eval()
    rows = BaseOutputs(whole, inputs).rows["0"]
    spoilt = copy.deepcopy(layer)
    with torch.no_grad():
        spoilt.weight.mul_(0.3)
        LayerSolver(rows, torch.arange(len(layer.weight)), lambda: None)(spoilt, (inputs,))
        assert torch.allclose(spoilt(inputs), layer(inputs), atol=0.05)
    assert torch.allclose(spoilt.weight, layer.weight, rtol=0.03, atol=2e-3)


@pytest.mark.parametrize("rows", [20, 200])
def test_a_ridge_is_the_closed_form_with_fewer_and_with_more_rows_than_inputs(rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, rest = (torch.randn(2, rows, width, generator=generator) + 3 for width in (50, 4))
    solution = Ridge(x, rest).solved(0.1)
    assert solution is not None
    for found, inputs, lacking in zip(solution, x.double(), rest.double(), strict=True):
        centred = inputs - inputs.mean(0)
        covariance = centred.T @ centred / rows
        ridge = covariance + 0.1 * covariance.diagonal().mean() * torch.eye(50, dtype=torch.float64)
        expected = torch.linalg.solve(ridge, centred.T @ (lacking - lacking.mean(0)) / rows).T
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-5)


def test_few_rows_of_inputs_that_are_nearly_one_leave_finite_weights() -> None:
    """Of 1,024 inputs 63 rows know little, and float32 less: the covariance is no longer positive definite."""
    torch.manual_seed(0)
    inputs = torch.randn(64, 1) * 1e3 + torch.randn(64, 1024) * 1e-3
    layer = nn.Linear(1024, 4)
    rows = BaseOutputs(nn.Sequential(layer).eval(), inputs).rows["0"]
    spoilt = copy.deepcopy(layer)
    with torch.no_grad():
        spoilt.weight.mul_(0.3)
        was = float((spoilt(inputs) - layer(inputs)).square().sum())
        LayerSolver(rows, torch.arange(4), lambda: None)(spoilt, (inputs,))
        now = float((spoilt(inputs) - layer(inputs)).square().sum())
    assert torch.isfinite(spoilt.weight).all() and now <= was
    with torch.no_grad():
        before = spoilt.weight.clone()
        LayerSolver(rows, torch.arange(4), lambda: None)(spoilt, (inputs * torch.inf,))
    assert torch.equal(before, spoilt.weight), "what is not finite teaches nothing"


def test_a_layer_that_runs_twice_stays_as_it_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared, self.once = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.once(torch.relu(self.shared(torch.relu(self.shared(torch.relu(self.first(x)))))))
            return found

    torch.manual_seed(0)
    base = Twice().eval()
    outputs = BaseOutputs(base, torch.rand(8, 3, 16, 16))
    assert set(outputs.rows) == {"first", "once"}


def test_a_trained_base_loses_less(tmp_path: Path) -> None:
    """A third of all channels; judged on images that no layer was solved on."""
    base = load_model(DIGITS)
    plan = shelf.trace(base, torch.zeros(1, 3, 128, 128)).plan(0.35, round_to=8)
    data = make_data(tmp_path / "data", train=48, val=8)
    images = torch.cat(list(calibration_batches(data, 128, 48)))
    seen, unseen = images[:32], images[32:]
    matched = plan.apply(base)
    match_statistics(matched, plan, BaseMoments(base, [seen]))
    small, changed = solved(base, plan, seen)
    judge = OutputDivergence(base, [unseen])
    assert changed > 20
    assert float(judge.losses(small).mean()) < 0.6 * float(judge.losses(matched).mean())


class Tied(nn.Module):
    """Two layers of one weight, one that scales its own, one that pads on its own, and a plain one."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.plain = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.b.weight = self.a.weight
        self.scaled, self.padded = Scaled(3, 3, 1), Padded(3, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.plain(self.padded(self.scaled(self.b(torch.relu(self.a(x))))))
        return found


class Scaled(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight / weight.norm(), bias)


class Padded(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))


def test_only_plain_layers_with_weights_of_their_own_are_solved_for() -> None:
    assert set(BaseOutputs(Tied().eval(), torch.rand(4, 3, 8, 8)).rows) == {"plain"}


def test_what_sees_the_chosen_queries_of_rtdetr_stays_as_it_is() -> None:
    """Row i is one object in the base and another one in the pruned network."""
    head = RTDETRDecoder(nc=2, ch=(8, 8, 8), hd=32, nq=10, nh=4, ndl=1, d_ffn=16).eval()
    base = nn.ModuleList([head])
    names = {name.removeprefix("0.").partition(".")[0] for name in solvable(base)}
    assert names == {"input_proj", "enc_output", "enc_score_head"}


def test_the_template_of_the_marks_is_not_kept() -> None:
    base, graph = zoo.calibrated("yolov8n-cls.yaml"), zoo.traced("yolov8n-cls.yaml")
    plan = graph.plan(0.3)
    plan.apply(base)
    kept = plan.graph.slice_templates[:] if plan.graph is not None else []
    BaseOutputs(base, zoo.picture(2, 1)).origins(plan)
    assert plan.graph is not None and plan.graph.slice_templates == kept != []


def test_trained_weights_are_no_sliced_ones() -> None:
    base = zoo.build("yolov8n.yaml")
    origin = Origin(zoo.traced("yolov8n.yaml").plan(0.5), base)
    small = origin.plan.apply(base)
    assert is_sliced(small, origin) and is_sliced(small.half().float(), origin)
    with torch.no_grad():
        next(small.parameters()).mul_(1.01)
    assert not is_sliced(small, origin)
