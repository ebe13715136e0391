"""Masks as a command: the asked share of zeros, kept by a fine-tune of the checkpoint, and nonsense refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pruning.checkpoints.checkpoint import load_model, read_notes, save_model
from pruning.recovery.finetune import TRAINERS
from pruning.recovery.weight_masks import masks_of, prunable_weights, sparsity
from search.commands.prune.finetune import Tuning, tune_in_child
from search.commands.prune.sparsify import MASK, Mask
from tests.pruning.recovery.test_finetune import base_for, pruned
from tests.search.conftest import run
from tests.tiny_data import make_tiny_data


@pytest.mark.parametrize(
    ("words", "share"),
    [(("mask=unstructured", "sparsity=0.8"), 0.8), (("mask=unstructured", "sparsity=0.5", "scope=layer"), 0.5)],
)
def test_a_masked_checkpoint_has_the_asked_zeros(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], share: float
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("prune", f"model={tiny / 'base.pt'}", *words, "-f", "json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    model = load_model(facts["model"])
    assert facts["sparsity"]["after"] == sparsity(model) == pytest.approx(share, abs=2e-3)
    assert facts["sparsity"]["before"] < 0.01 and read_notes(facts["model"]) == {MASK: "unstructured"}
    each = [float((weight == 0).float().mean()) for _, weight in prunable_weights(model)]
    assert (max(each) - min(each) < 0.1) == ("scope=layer" in words)


def test_a_fine_tune_keeps_two_of_four(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    base, data = tiny / "base.pt", tiny / "data" / "data.yaml"
    made = run("prune", f"model={base}", "mask=2:4", "-f", "json")
    assert made.exit_code == 0, made.output
    path = json.loads(made.stdout)["model"]
    assert path == "base-masked-2of4/masked.pt"
    words = (f"data={data}", f"base={base}", "imgsz=64", "epochs=1", "batch=6", "device=cpu", "-f", "json")
    tuned = run("finetune", path, *words)
    assert tuned.exit_code == 0, tuned.output
    facts = json.loads(tuned.stdout)
    assert facts["mask"] == "2:4" and facts["sparsity"]["after"] == pytest.approx(facts["sparsity"]["before"], abs=1e-4)
    before, after = load_model(path), load_model(facts["model"])
    masks = masks_of(before)
    assert (
        masks.keep
        and masks.holds(after)
        and not torch.equal(before.state_dict()["model.0.conv.weight"], after.state_dict()["model.0.conv.weight"])
    )
    assert read_notes(facts["model"]) == {MASK: "2:4", "paretoprune_imgsz": 64}
    assert run("finetune", path, *words).exit_code == 2


def test_zeros_without_the_note_are_weights_as_others(tiny: Path, tmp_path: Path) -> None:
    model = load_model(tiny / "base.pt")
    weight = model.get_submodule("model.0.conv").weight
    with torch.no_grad():
        weight[0] = 0.0
    save_model(model, tmp_path / "zeros.pt")
    keys = {"data": tiny / "data" / "data.yaml", "imgsz": 64, "epochs": 1, "batch": 6, "device": "cpu", "lr0": 0.01}
    facts = tune_in_child(Tuning.of_file(tmp_path / "zeros.pt", keys), tmp_path / "work")
    assert facts["mask"] is None
    assert (load_model(facts["model"]).get_submodule("model.0.conv").weight[0] != 0).any()


def test_a_masked_file_keeps_the_plan_of_the_pruned_one(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(load_model(tiny / "base.pt"), tmp_path / "pruned.pt", paretoprune_plan="{}")
    result = run("prune", "model=pruned.pt", "mask=2:4", "-f", "json")
    assert result.exit_code == 0, result.output
    assert read_notes(json.loads(result.stdout)["model"]) == {"paretoprune_plan": "{}", MASK: "2:4"}


def test_yaml_reads_two_of_four_as_a_number() -> None:
    assert Mask.from_keys({"model": __file__, "mask": 124}).mask == "2:4"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("mask=unstructured",), "needs sparsity="),
        (("mask=unstructured", "sparsity=1.5"), "1.5 is not a sparsity"),
        (("mask=5:4",), "no mask '5:4'"),
        (("mask=some",), "no mask 'some'"),
        (("mask=2:4", "sparsity=0.5"), "fixes everything"),
        (("mask=unstructured", "sparsity=0.5", "scope=globl"), "did you mean: global"),
        (("mask=unstructured", "sparsity=0.5", "ratio=0.5"), "unknown key 'ratio'"),
    ],
)
def test_nonsense_is_refused_at_once(workplace: Path, words: tuple[str, ...], expected: str) -> None:
    result = run("prune", "model=best.pt", *words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and expected in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nowhere.pt", "data=data.yaml"), "no such file: nowhere.pt"),
        (("best.pt",), "data= is needed"),
        (("best.pt", "data=data.yaml", "epochs=two"), "epochs"),
        (("best.pt", "data=data.yaml", "epohcs=2"), "did you mean epochs"),
    ],
)
def test_a_fine_tune_that_makes_no_sense_is_refused(workplace: Path, words: tuple[str, ...], expected: str) -> None:
    result = run("finetune", *words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and expected in result.stderr


@pytest.mark.parametrize(
    "task",
    [
        # what the command adds to the training is the same for all four; that of each is in test_finetune of pruning
        pytest.param(task, marks=[pytest.mark.slow] if task in ("segment", "pose", "obb") else [])
        for task in TRAINERS
    ],
)
def test_a_pruned_checkpoint_of_every_task_is_fine_tuned_as_it_is(task: str, tmp_path: Path) -> None:
    """`paretoprune finetune pruned.pt`: architecture kept, with the base as teacher where the task allows one."""
    data, base = make_tiny_data(tmp_path / "data", task, images=8), base_for(task, tmp_path)
    small = pruned(base)
    save_model(small, tmp_path / "pruned.pt")
    order = Tuning.of_file(
        tmp_path / "pruned.pt", {"data": data, "base": base, "epochs": 1, "batch": 4, "device": "cpu"}
    )
    assert order.imgsz == 64, "read from the checkpoint"
    facts = tune_in_child(order, tmp_path)
    tuned = load_model(facts["model"])
    shapes = {name: value.shape for name, value in tuned.state_dict().items()}
    assert shapes == {name: value.shape for name, value in small.state_dict().items()}
    assert facts["mask"] is None and set(facts["figures"]["before"]) == set(facts["figures"]["after"])
