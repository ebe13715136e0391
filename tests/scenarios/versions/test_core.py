"""What must work with every release of Ultralytics that is supported: `make matrix` runs these with each.

The way of a user, from study.yaml to an exported file and back, and what a release can spoil unseen: the algebra of
pruning, the count of parameters through every task's training, whose figures are reported, which files are refused.
"""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from objectives.accuracy.measure import measure_accuracy
from pruning import CheckpointError
from pruning.checkpoints.checkpoint import count_parameters, load_model, save_model
from pruning.recovery.finetune import TRAINERS, Recovery
from pruning.recovery.repair import Origin, repair
from search.study import Study
from search.trial import TrialState
from studies.digits.make_data import make_data
from tests.pruning import zoo
from tests.pruning.test_plan_zoo import plans
from tests.search.conftest import run
from tests.tiny_data import make_tiny_data
from ultralytics_versions.tested import installed, trains_masks

pytestmark = pytest.mark.core

SIZE = zoo.SIZE
DIGITS = Path(__file__).parents[3] / "studies" / "digits"
NETWORKS = {
    "detect": "yolov8n.yaml",
    "segment": "yolo11n-seg.yaml",
    "pose": "yolov8n-pose.yaml",
    "obb": "yolo11n-obb.yaml",
    "classify": "yolov8n-cls.yaml",
}
"""Task -> a network that every release has."""


@pytest.mark.slow  # tests/pruning/test_plan_zoo.py shows more of it with the release that is installed
@pytest.mark.parametrize("name", zoo.FAMILIES)
def test_what_is_cut_computes_what_is_masked_and_costs_what_is_said(name: str) -> None:
    graph, x = zoo.traced(name), zoo.picture().double()
    model = copy.deepcopy(zoo.build(name)).double()
    plan = plans(graph)["random"]
    small, twin = plan.apply(model), plan.mask(model)
    with torch.no_grad():
        assert zoo.worst_difference(small(x), twin(x)) < 1e-9
        assert zoo.worst_difference(twin(x), model(x)) > 1e-3
    assert plan.cost().params == count_parameters(small)
    assert graph.free_mac_share() >= 0.9


def base_of(task: str, folder: Path) -> tuple[Path, Path]:
    """A checkpoint of the task and its data."""
    folder.mkdir(exist_ok=True)
    save_model(zoo.for_tiny_data(NETWORKS[task]), folder / "base.pt")
    return folder / "base.pt", make_tiny_data(folder / "data", task, images=8)


@pytest.mark.slow  # tests/pruning/recovery and tests/objectives/accuracy show each of it
@pytest.mark.parametrize("task", TRAINERS)
def test_a_pruned_network_is_repaired_keeps_its_parameters_and_is_measured_by_its_validator(
    task: str, tmp_path: Path
) -> None:
    from ultralytics import YOLO

    if task == "segment" and not trains_masks(installed()):
        pytest.skip("this release cannot train segmentation on a batch of two images")
    base, data = base_of(task, tmp_path)
    model = load_model(base)
    plan = zoo.shelf.trace(model, torch.zeros(1, 3, SIZE, SIZE)).plan(0.3, round_to=8)
    small = plan.apply(model)
    parameters = count_parameters(small)
    how = Recovery(imgsz=SIZE, batch=4, distill=task != "classify")
    repaired = repair(small, data, how, origin=Origin(plan, model), base=base, work_dir=tmp_path / "work")
    assert count_parameters(repaired.model) == parameters == plan.cost().params
    assert "fine-tune" in [step.step for step in repaired.steps]
    save_model(repaired.model, path := tmp_path / "small.pt")
    ours = measure_accuracy(path, data, imgsz=SIZE, batch=4, resamples=2)
    theirs = YOLO(path).val(
        data=str(data), imgsz=SIZE, batch=4, workers=0, device="cpu", plots=False, verbose=False, project=str(tmp_path)
    )
    name, key = ("top1", "metrics/accuracy_top1") if task == "classify" else ("map50_95", "metrics/mAP50-95(B)")
    assert ours.figures[name].value == pytest.approx(theirs.results_dict[key], abs=1e-6)


class _Planted:
    """A pickle that would write a file."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.made = (call, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], Any]:
        return self.made


@pytest.mark.parametrize("call", [os.mkdir, exec, pickle.loads, getattr, DetectionModel])
def test_a_hostile_checkpoint_runs_nothing_whoever_opens_it(call: Callable[..., Any], tmp_path: Path) -> None:
    """Ours, and Ultralytics' own loader behind its trainers and exporters, where a release has none that is safe."""
    from ultralytics import YOLO
    from ultralytics.utils import IterableSimpleNamespace

    place = tmp_path / "owned"
    code = f"__import__('os').mkdir({str(place)!r})"
    arguments: dict[Any, tuple[Any, ...]] = {
        os.mkdir: (str(place),),
        exec: (code,),
        pickle.loads: (pickle.dumps(_Planted(os.mkdir, str(place))),),
        getattr: (IterableSimpleNamespace, "__init__"),
        DetectionModel: ({"activation": code, "nc": 1, "backbone": [[-1, 1, "nn.Identity", []]], "head": []},),
    }
    path = tmp_path / "best.pt"
    torch.save({"model": None, "train_args": _Planted(call, *arguments[call])}, path)
    with pytest.raises(CheckpointError, match=r"not an Ultralytics checkpoint that can be loaded safely|made to harm"):
        load_model(path)
    with pytest.raises((TypeError, pickle.UnpicklingError)):
        YOLO(path)
    assert not place.exists()


@pytest.mark.slow  # the tutorial and tests/search show it command by command
def test_the_way_from_a_study_to_an_exported_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that was trained: what INT8 does to random weights proves nothing."""
    base, data = DIGITS / "yolov8n-digits.pt", make_data(tmp_path / "digits", train=24, val=8)
    monkeypatch.chdir(tmp_path)
    _done("init", f"model={base}", f"data={data}", "imgsz=96", "name=core")
    quick = ("recover.batch=4", "latency.seconds=0.2", "search.trials=2", "space.depth=true", "baselines=[]")
    said = json.loads(_done("check", "study.yaml", *quick, "-f", "json"))
    assert said["reach"]["params_m"]["least"] < 0.5 * said["reach"]["params_m"]["base"]
    _done("search", "study.yaml", *quick, "keep.weights=all")
    study = Study.load("runs/prune/core")
    for trial in study.trials():
        assert trial.state == TrialState.COMPLETE, trial.error
        weights = study.record.trial_dir(trial.number) / "weights.pt"
        assert trial.measurement is not None
        assert trial.measurement.figures["params_m"].value == count_parameters(load_model(weights)) / 1e6
    _done("report", "core")
    smallest = min(study.trials(), key=lambda trial: trial.measurement.figures["params_m"].value)
    _done("show", f"core:{smallest.number}")
    exported = json.loads(
        _done("export", f"core:{smallest.number}", "format=onnx", "quantize=8,32", "--max-drop", "1", "-f", "json")
    )
    assert sorted(artefact["precision"] for artefact in exported["artefacts"]) == ["fp32", "int8"]
    small_file = study.record.trial_dir(smallest.number) / "weights.pt"
    _done("finetune", str(small_file), f"data={data}", f"base={base}", "epochs=1", "batch=4", "out=tuned.pt")
    assert count_parameters(load_model("tuned.pt")) == count_parameters(load_model(small_file))
    words = ("compare", str(base), "tuned.pt", f"data={data}", "imgsz=96", "seconds=0.3", "-f", "json")
    first, small = json.loads(_done(*words))
    assert small["params_m"] < first["params_m"] and first["figures"]["map50_95"] > 0.2


def _done(*words: str) -> str:
    result = run(*words)
    assert result.exit_code == 0, f"{' '.join(words)}: {result.output}"
    return result.stdout
