"""A fine-tune of one checkpoint: of grey images too, and what was trained is kept whatever comes after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from pruning.checkpoints.checkpoint import load_model, save_model
from search.commands.prune.finetune import Tuning, tune_in_child
from tests.tiny_data import CLASSES, make_tiny_data

SIZE = 64


def grey(folder: Path) -> tuple[Path, Path]:
    """A checkpoint and data of one channel."""
    torch.manual_seed(0)
    model: Any = DetectionModel("yolov8n.yaml", ch=1, nc=len(CLASSES), verbose=False)
    model.names, model.args, model.task = dict(enumerate(CLASSES)), {"imgsz": SIZE}, "detect"
    save_model(model, folder / "grey.pt")
    data = make_tiny_data(folder / "data", size=SIZE, images=8)
    data.write_text(data.read_text() + "channels: 1\n")
    return folder / "grey.pt", data


def order(model: Path, data: Path) -> Tuning:
    return Tuning.of_file(model, {"data": data, "base": model, "epochs": 1, "batch": 4, "device": "cpu"})


def test_a_grey_model_is_fine_tuned_and_nothing_else_is_left(tmp_path: Path) -> None:
    model, data = grey(tmp_path)
    facts = tune_in_child(order(model, data), tmp_path / "work")
    assert next(load_model(facts["model"]).parameters()).shape[1] == 1
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["grey-finetuned.pt", "grey.pt"]


def test_what_was_trained_is_there_though_all_after_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("failed on purpose")

    model, data = grey(tmp_path)
    monkeypatch.setattr("pruning.recovery.repair._with_better_statistics", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        tune_in_child(order(model, data), tmp_path / "work")
    trained, before = load_model(tmp_path / "grey-finetuned-trained.pt"), load_model(model)
    assert any(
        not torch.equal(one, other) for one, other in zip(trained.parameters(), before.parameters(), strict=True)
    )


def test_a_trial_is_repaired_and_scored_on_grey_images(tmp_path: Path) -> None:
    """Statistics, fine-tune, output probe: all that a trial does with images."""
    from pruning import trace
    from pruning.recovery.finetune import Recovery
    from pruning.recovery.repair import Origin, repair
    from search.evaluate.sample_images import draw_samples
    from search.evaluate.workload import example_input

    model, data = grey(tmp_path)
    base = load_model(model)
    plan = trace(base, example_input(base, SIZE)).plan(0.3)
    how = Recovery(imgsz=SIZE, batch=4, epochs=1)
    found = repair(plan.apply(base), data, how, origin=Origin(plan, base), base=model, work_dir=tmp_path / "work")
    assert [step.step for step in found.steps][:2] == ["statistics", "fine-tune"]
    assert len(draw_samples(model, data, imgsz=SIZE, device="cpu", folder=tmp_path / "samples")) == 4
