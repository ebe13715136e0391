"""A fine-tune of one checkpoint: of grey images too, and what was trained is kept whatever comes after."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from ultralytics.nn.tasks import DetectionModel

from pruning.checkpoints.checkpoint import load_model, save_model
from search.commands.prune.finetune import (
    Tuning,
    _for_its_classes,
    _same_classes,
    is_own_data,
    tune_in_child,
    tuning_elsewhere,
)
from search.config.inputs.checkpoint_facts import checkpoint_facts
from search.errors import ConfigError
from search.present.terminal.exports_and_plans import render_tuned
from search.study import Study
from tests.search.conftest import run
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


def order(model: Path, data: Path, **keys: Any) -> Tuning:
    return Tuning.of_file(model, {"data": data, "base": model, "epochs": 1, "batch": 4, "device": "cpu", **keys})


def test_a_grey_model_is_fine_tuned_and_nothing_else_is_left(tmp_path: Path) -> None:
    model, data = grey(tmp_path)
    facts = tune_in_child(order(model, data, imgsz=[32, SIZE]), tmp_path / "work")
    assert checkpoint_facts(tmp_path / "grey-finetuned.pt").imgsz == (32, SIZE) != checkpoint_facts(model).imgsz
    assert next(load_model(facts["model"]).parameters()).shape[1] == 1
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["grey-finetuned.pt", "grey.pt"]


def test_what_was_trained_is_there_though_all_after_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("failed on purpose")

    model, data = grey(tmp_path)
    monkeypatch.setattr("pruning.recovery.repair._with_better_statistics", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        tune_in_child(order(model, data, imgsz=SIZE // 2), tmp_path / "work")
    assert checkpoint_facts(tmp_path / "grey-finetuned-trained.pt").imgsz == SIZE // 2
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


def test_a_trial_is_fine_tuned_on_other_data_to_a_file_of_its_own(planned: Study, tiny: Path) -> None:
    weights = planned.record.trial_dir(1) / "weights.pt"
    other = Path("other.yaml")
    other.touch()
    with pytest.raises(ConfigError, match="were not kept"):
        tuning_elsewhere(planned.trial(1), {"data": str(other)})
    shutil.copy(tiny / "base.pt", weights)
    found = tuning_elsewhere(planned.trial(1), {"data": str(other), "epochs": 7, "seed": 3})
    assert (found.model, found.data, found.base) == (weights, other, tiny / "base.pt")
    assert found.file == planned.trial(1).folder / "finetuned-other.pt" != planned.trial(1).tuned
    assert (found.imgsz, found.seed) == (SIZE, 3)
    assert (found.recover.epochs, found.recover.fraction, found.recover.batch) == (7, 1.0, planned.spec.recover.batch)
    said = {**_FACTS, "classes": {"before": ["a", "b"], "after": ["a", "c", "d"], "kept": ["a"], "layers": "new"}}
    text = io.StringIO()
    Console(file=text, width=200).print(render_tuned(said))
    assert "3 classes instead of 2: the class layers are new; the weights of a were kept." in text.getvalue()


def test_the_runs_own_data_are_no_other_data(planned: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Path(planned.spec.data)
    monkeypatch.setattr("search.commands.prune.finetune.finetune_file", _not_this_way)
    (tmp_path / "link.yaml").symlink_to(own)
    for data in (own, os.path.relpath(own), "link.yaml"):
        said = run("finetune", "runs/prune/planned:base", f"data={data}")
        assert said.exit_code == 2 and "no plan to fine-tune" in said.stderr
    shutil.copy(own, "same-text.yaml")
    assert not is_own_data(planned.trial(1), "same-text.yaml") and not is_own_data(planned.trial(1), "gone.yaml")


def _not_this_way(*_: object) -> None:
    raise AssertionError


@pytest.mark.parametrize(
    ("names", "layers", "rows"),
    [(CLASSES, None, (0, 1)), (CLASSES[::-1], "reordered", (1, 0)), (("dark", "light"), "kept", (0, 1))],
)
def test_as_many_classes_go_by_their_names(
    names: tuple[str, ...], layers: str | None, rows: tuple[int, int], tiny: Path, tmp_path: Path
) -> None:
    data = make_tiny_data(tmp_path / "data", images=2)
    said = yaml.safe_load(data.read_text())
    data.write_text(yaml.safe_dump({**said, "names": dict(enumerate(names))}))
    model = load_model(tiny / "base.pt")
    made, changed = _for_its_classes(model, data, seed=0)
    assert (changed and changed["layers"]) == layers and made.names == dict(enumerate(names))
    for before, after in zip(model.model[-1].cv3, made.model[-1].cv3, strict=True):
        assert torch.equal(before[-1].weight[list(rows)], after[-1].weight)
    assert _same_classes(made, tiny / "base.pt") == (tiny / "base.pt" if changed is None else None)
    assert model.names == dict(enumerate(CLASSES)), "the network that was given is left alone"
    if changed is not None:
        text = io.StringIO()
        Console(file=text, width=200).print(render_tuned({**_FACTS, "classes": changed}))
        assert ("in another order" if layers == "reordered" else "other names") in text.getvalue()


_FACTS: dict[str, Any] = {
    "model": "new.pt",
    "mask": None,
    "sparsity": {"before": 0.0, "after": 0.0},
    "figures": {"before": {"map50_95": 0.0}, "after": {"map50_95": 0.4}},
    "repair": [],
}


@pytest.mark.slow
def test_another_number_of_classes_changes_the_class_layers_alone(tmp_path: Path) -> None:
    """Of a pruned checkpoint and of a trial: what was removed stays removed."""
    from pruning import Plan
    from pruning.checkpoints.checkpoint import read_notes
    from tests.pruning import zoo

    base: Any = zoo.for_tiny_data("yolov8n.yaml")
    save_model(base, tmp_path / "best.pt")
    plan: Plan = zoo.shelf.trace(base, torch.zeros(1, 3, SIZE, SIZE)).plan(0.5)
    save_model(plan.apply(base), tmp_path / "pruned.pt", paretoprune_plan=plan.to_json())
    data = make_tiny_data(tmp_path / "data", size=SIZE, images=8)
    data.write_text(data.read_text().replace("names:\n", "names:\n  2: striped\n"))
    keys = {"data": data, "base": tmp_path / "best.pt", "epochs": 1, "batch": 4, "device": "cpu"}
    facts = tune_in_child(Tuning.of_file(tmp_path / "pruned.pt", keys), tmp_path / "work")
    names = [*CLASSES, "striped"]
    assert facts["classes"] == {"before": list(CLASSES), "after": names, "kept": list(CLASSES), "layers": "new"}
    tuned, small = load_model(facts["model"]), load_model(tmp_path / "pruned.pt")
    shapes = {key: tensor.shape for key, tensor in small.state_dict().items()}
    changed = {key for key, tensor in tuned.state_dict().items() if tensor.shape != shapes[key]}
    assert changed == {f"model.22.cv3.{n}.2.{kind}" for n in range(3) for kind in ("weight", "bias")}
    assert tuned.names == {0: "dark", 1: "bright", 2: "striped"} and read_notes(facts["model"])
    again = {**keys, "out": tmp_path / "again.pt"}  # a base that knows other classes is no teacher
    more = tune_in_child(Tuning.of_file(Path(facts["model"]), again), tmp_path / "work2")
    assert more["classes"] is None and load_model(more["model"]).names == tuned.names
