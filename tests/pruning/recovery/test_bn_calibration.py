"""Statistics of a pruned network: unchanged where nothing was pruned, and otherwise those that the base has."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pruning
from pruning import ChannelGraph, Plan
from pruning.errors import RecoveryError
from pruning.recovery.bn_calibration import BaseMoments, calibration_batches, match_statistics
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data

NAMES = (*("yolov8n.yaml", "yolov10n.yaml", "yolo12n.yaml", "yolo26n-cls.yaml", "torchvision:resnet18"),)


def norms(model: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}


def corrected(base: nn.Module, plan: Plan, *batches: Tensor) -> nn.Module:
    small = plan.apply(base)
    match_statistics(small, plan, BaseMoments(base, batches))
    return small


def empty_plan_changes_nothing(base: nn.Module, graph: ChannelGraph) -> None:
    before = copy.deepcopy(base.state_dict())
    after = corrected(base, graph.plan(0.0), zoo.picture(3, 1), zoo.picture(2, 2)).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(torch.equal(before[key], value) for key, value in base.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_channels_leave_their_norm_as_they_do_in_the_base(name: str) -> None:
    base, graph = zoo.calibrated(name), zoo.traced(name)
    empty_plan_changes_nothing(base, graph)
    plan, images = graph.plan(0.3, round_to=4, removed=[block.path for block in graph.blocks[:1]]), zoo.picture(4, 1)
    small, moments = corrected(base, plan, images), BaseMoments(base, [images])
    origins = moments.origins(plan)
    assert set(origins) == set(norms(small)), "every norm that is left has a place in the base"
    expected, found = dict(_outputs(base, images)), dict(_outputs(small, images))
    assert len(found) > 10
    for name_of_norm, (mean, deviation) in found.items():
        origin, channels = origins[name_of_norm]
        base_mean, base_deviation = (value[channels] for value in expected[origin])
        assert torch.allclose(deviation, base_deviation, rtol=0.02, atol=1e-3), name_of_norm
        assert torch.allclose(mean, base_mean, rtol=0.02, atol=2e-3), name_of_norm


def _outputs(model: nn.Module, images: Tensor) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Mean and deviation of each channel behind each norm, before its scale and shift, which surgery may change."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, norm: nn.BatchNorm2d, output: Tensor) -> None:
        scale, shift = (value[:, None, None] for value in (norm.weight, norm.bias))
        seen[name] = (output - shift) / scale

    handles = [
        norm.register_forward_hook(lambda module, inputs, output, name=name: keep(name, module, output))
        for name, norm in norms(model).items()
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    for name, output in seen.items():
        yield name, (output.mean(dim=(0, 2, 3)), output.std(dim=(0, 2, 3), correction=0))


class Plain(nn.Module):
    """Two convolutions with norms, and an output."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second, self.last = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 10, 3), nn.Conv2d(10, 2, 1)
        self.norm_1, self.norm_2 = nn.BatchNorm2d(12), nn.BatchNorm2d(10)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm_2(self.second(self.norm_1(self.first(x)).relu())).relu())  # type: ignore[no-any-return]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), ratio=st.floats(0.0, 0.9), batches=st.integers(1, 4), silent=st.booleans())
def test_statistics_stay_finite_and_not_negative(seed: int, ratio: float, batches: int, silent: bool) -> None:
    model = zoo.seeded(Plain(seed), seed)
    if silent:
        nn.init.zeros_(model.first.weight)  # type: ignore[union-attr, arg-type]
    plan = pruning.trace(model, torch.zeros(1, 3, 12, 12)).plan(ratio)
    images = [torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(seed + i)) for i in range(batches)]
    small = corrected(model, plan, *images)
    for norm in norms(small).values():
        assert norm.running_mean is not None and norm.running_var is not None
        assert bool(torch.isfinite(norm.running_mean).all()) and bool((norm.running_var >= 0).all())


def test_a_network_without_norms_is_left_alone() -> None:
    model = zoo.seeded(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1)))
    plan = pruning.trace(model, torch.zeros(1, 3, 8, 8)).plan(0.5)
    before = plan.apply(model).state_dict()
    after = corrected(model, plan, torch.rand(2, 3, 8, 8)).state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_statistics_that_a_trained_network_has_do_not_matter() -> None:
    """They are the base's, corrected: of a network whose weights nobody touched, what slicing and correcting give."""
    base = zoo.build("yolov8n.yaml")
    plan = zoo.traced("yolov8n.yaml").plan(0.3)
    moments = BaseMoments(base, [zoo.picture(4, 1)])
    sliced, trained = plan.apply(base), plan.apply(base)
    for name, buffer in trained.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.add_(1.0)
    for model in (sliced, trained):
        match_statistics(model, plan, moments)
    for (name, one), (_, other) in zip(sliced.named_buffers(), trained.named_buffers(), strict=True):
        assert torch.equal(one, other), name


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make_tiny_data(tmp_path / "data")
    files = sorted((tmp_path / "data" / "images" / "train").iterdir())
    whole = torch.cat(list(calibration_batches(data, 64, count=len(files), batch=4)))
    for file in files[:2]:
        file.write_bytes(b"no picture")
    rest = torch.cat(list(calibration_batches(data, 64, count=len(files), batch=4)))
    assert len(rest) == len(whole) - 2
    assert all(any(torch.equal(image, one) for one in whole) for image in rest)
    assert len(next(calibration_batches(data, 64, count=3))) == 3  # others take their place
    assert all(str(file) in caplog.text for file in files[:2])
    for file in files:
        file.write_bytes(b"no picture")
    with pytest.raises(RecoveryError, match="no training images"):
        next(calibration_batches(data, 64, count=3))


def test_images_that_judge_take_no_part_unless_there_are_no_others(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", "detect", images=8)
    files = sorted(map(str, (tmp_path / "data").rglob("train/*.*g")))
    assert len(files) == 8
    (every,) = calibration_batches(data, 64)
    (others,) = calibration_batches(data, 64, without=files[:3])
    assert len(every) == 8 and len(others) == 5
    assert all(any(torch.equal(image, one) for one in every) for image in others)
    assert len(next(calibration_batches(data, 64, without=files))) == 8
