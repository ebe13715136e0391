"""Masks: the asked share, the right weights, and exactly in place after training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pruning import PlanError
from pruning.checkpoints.checkpoint import load_model
from pruning.recovery.finetune import Recovery, recover
from pruning.recovery.weight_masks import n_of_m, prunable_weights, sparsity, unstructured
from tests.pruning import zoo
from tests.pruning.recovery.test_finetune import base_for
from tests.tiny_data import make_tiny_data


@pytest.mark.parametrize("whole_model", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_asked_share_of_the_smallest_weights_goes(share: float, whole_model: bool, base: Path) -> None:
    model = load_model(base)
    before = {name: weight.detach().clone() for name, weight in prunable_weights(model)}
    masks = unstructured(model, share, whole_model=whole_model)
    masks.enforce(model)
    assert abs(sparsity(model) - share) < 1e-3
    parts = (
        [torch.cat([before[n].abs().flatten() for n in before])] if whole_model else [w.abs() for w in before.values()]
    )
    keeps = [torch.cat([masks.keep[n].flatten() for n in before])] if whole_model else [masks.keep[n] for n in before]
    for sizes, keep in zip(parts, keeps, strict=True):
        if (~keep).any() and keep.any():
            assert sizes[~keep].max() <= sizes[keep].min()


def test_two_of_four_along_the_inputs() -> None:
    layer = nn.Conv2d(8, 6, 3)
    masks = n_of_m(layer, 2, 4)
    masks.enforce(layer)
    kept = masks.keep["weight"].permute(0, 2, 3, 1).reshape(-1, 4).sum(1)
    assert kept.unique().tolist() == [2]
    assert sparsity(layer) == 0.5


def test_a_transposed_convolution_stays_dense() -> None:
    """Its second dimension are the outputs."""
    assert not n_of_m(nn.Sequential(nn.ConvTranspose2d(8, 8, 2)), 2, 4).keep


SHORT = Recovery(imgsz=64, batch=4, distill=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_for("detect", tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def free(base: Path, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """The base, fine-tuned without a mask."""
    folder = tmp_path_factory.mktemp("free")
    return recover(load_model(base), make_tiny_data(folder / "data"), SHORT, work_dir=folder / "work")


@pytest.mark.parametrize("kind", ["unstructured", "2:4"])
def test_masks_stay_in_place_through_fine_tuning(kind: str, base: Path, free: nn.Module, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data")
    model = load_model(base)
    masks = unstructured(model, 0.8) if kind == "unstructured" else n_of_m(model)
    masks.enforce(model)
    before = sparsity(model)
    done = recover(model, data, SHORT, masks=masks, work_dir=tmp_path / "masked")
    assert masks.holds(done) and not masks.holds(free)
    assert sparsity(done) == before > 0.3 > sparsity(free)


def test_slimming_shrinks_the_scales(base: Path, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data")

    def mean_scale(slimming: float) -> float:
        recovery = Recovery(imgsz=64, batch=4, epochs=2, distill=False, slimming=slimming, train={"lr0": 1e-2})
        done = recover(load_model(base), data, recovery, work_dir=tmp_path / f"slim{slimming}")
        scales = [m.weight.abs() for m in done.modules() if isinstance(m, nn.BatchNorm2d)]
        return float(torch.cat(scales).mean())

    assert mean_scale(1.0) < mean_scale(0.0)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_outside_the_range_is_refused(share: float) -> None:
    with pytest.raises(PlanError, match="at least 0 and below 1"):
        unstructured(zoo.build("yolov8n.yaml"), share)


def test_more_than_m_of_m_is_refused() -> None:
    with pytest.raises(PlanError, match="5:4"):
        n_of_m(nn.Conv2d(4, 4, 1), 5, 4)
