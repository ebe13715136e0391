"""Criteria: known answers, agreement with what they approximate, and rankings that mean something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pruning
from pruning import PlanError
from pruning.data_importance import DATA_CRITERIA, labelled_batches, score_on_batches
from pruning.importance import CRITERIA
from pruning.recovery.finetune import TRAINERS
from tests import shelf
from tests.pruning import zoo
from tests.pruning.recovery.test_finetune import base_for
from tests.tiny_data import make_tiny_data


class Toy(nn.Module):
    """Two convolutions: the filters of the first are one group of four."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Conv2d(4, 2, 1)
        with torch.no_grad():
            for number, size in enumerate((3.0, 1.0, 2.0, 0.5)):
                self.first.weight[number] = size
                self.norm.weight[number] = 4.0 - number

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.first(x)))
        return out


@pytest.fixture
def toy() -> tuple[nn.Module, pruning.ChannelGraph]:
    torch.manual_seed(0)
    model = Toy().eval()
    return model, pruning.trace(model, torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("criterion", "expected"),
    [
        ("l1", [9.0, 3.0, 6.0, 1.5]),
        ("l2", [27**0.5, 3**0.5, 12**0.5, 0.75**0.5]),
        ("bn_gamma", [4.0, 3.0, 2.0, 1.0]),
        ("lamp", [27 / 27, 3 / 42, 12 / 39, 0.75 / 42.75]),
        ("fpgm", [3**0.5 * 5.5, 3**0.5 * 3.5, 3**0.5 * 3.5, 3**0.5 * 4.5]),
    ],
)
def test_known_answers(toy: tuple[nn.Module, pruning.ChannelGraph], criterion: str, expected: list[float]) -> None:
    model, graph = toy
    assert graph.score(model, criterion)["first"] == pytest.approx(expected, rel=1e-4)


def test_taylor_is_the_slope_of_the_loss_by_a_gate(toy: tuple[nn.Module, pruning.ChannelGraph]) -> None:
    model, graph = toy
    model = model.double()
    batch = torch.rand(5, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def loss(m: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = m(x).square().mean()
        return out

    found = score_on_batches(graph.table, model, "taylor", [batch], loss)["first"]
    fisher = score_on_batches(graph.table, model, "fisher", [batch], loss)["first"]
    weight = model.get_parameter("first.weight")
    for channel in range(4):
        values = []
        for gate in (1 - 1e-5, 1 + 1e-5):
            with torch.no_grad():
                kept = weight[channel].clone()
                weight[channel] *= gate
                values.append(float(loss(model, batch)))
                weight[channel] = kept
        slope = (values[1] - values[0]) / 2e-5
        assert found[channel] == pytest.approx(abs(slope), rel=1e-3, abs=1e-9)
        assert fisher[channel] == pytest.approx(slope**2, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize("task", TRAINERS)
def test_every_task_has_scores_measured_on_its_own_labels(task: str, tmp_path: Path) -> None:
    from pruning.checkpoints.checkpoint import load_model

    data = make_tiny_data(tmp_path / "data", task)
    model = load_model(base_for(task, tmp_path))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = shelf.trace(model, torch.zeros(1, 3, 64, 64))
    batches = labelled_batches(model, data, 64, count=8, batch=4)
    assert len(batches) == 2
    for criterion in DATA_CRITERIA:
        scores = score_on_batches(graph.table, model, criterion, batches)
        values = np.concatenate([scores[group.name] for group in graph.free])
        assert np.isfinite(values).all() and (values >= 0).all() and values.std() > 0
        graph.plan(0.3, scores, round_to=8).apply(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("number", [0.0, float("nan")])
def test_a_criterion_that_ranks_nothing_is_refused(toy: tuple[nn.Module, pruning.ChannelGraph], number: float) -> None:
    """The batch norms of a fused checkpoint are gone, and its scores were thousands of zeros."""
    model, graph = toy
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.fill_(number)
    with pytest.raises(PlanError, match=r"bn_gamma.* l2"):
        graph.score(model, "bn_gamma")


def test_a_silent_channel_goes_first() -> None:
    model, graph = zoo.build("yolov8n.yaml"), zoo.traced("yolov8n.yaml")
    group = next(g for g in graph.free if g.name == "model.6.m.0.cv1")
    silenced = graph.plan({group.name: 0.5}, importance="random").mask(model)
    kept = set(dict(graph.plan({group.name: 0.5}, importance="random").kept)[group.name])
    for criterion in sorted(CRITERIA.keys() - {"random", "fpgm"}):
        scores = graph.score(silenced, criterion)[group.name]
        assert set(np.argsort(-scores, kind="stable")[: len(kept)].tolist()) == kept, criterion


def test_global_ranking_takes_the_asked_share_and_spares_what_matters() -> None:
    graph = zoo.traced("yolov8n.yaml")
    free = {group.name: group.size for group in graph.free}
    plan = graph.plan(0.4, importance="lamp", ranking="global")
    kept = sum(plan.widths[name] for name in free) / sum(free.values())
    assert kept == pytest.approx(0.6, abs=0.02)
    shares = {name: plan.widths[name] / size for name, size in free.items()}
    assert min(shares.values()) >= 0.09 and len(set(shares.values())) > 5
    smaller = graph.plan(0.6, importance="lamp", ranking="global").widths
    assert all(smaller[name] <= width for name, width in plan.widths.items())


def test_an_unknown_criterion_names_the_near_miss() -> None:
    with pytest.raises(PlanError, match="did you mean lamp"):
        zoo.traced("yolov8n.yaml").plan(0.3, importance="lampp")


def test_a_global_ranking_takes_one_ratio() -> None:
    with pytest.raises(PlanError, match="one ratio"):
        zoo.traced("yolov8n.yaml").plan({"model.0": 0.5}, ranking="global")
