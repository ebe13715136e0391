"""A user's own model and task (tests/search/own/discs.py): every command, and every mistake that can be made."""

from __future__ import annotations

import json
import math
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from objectives import objective
from objectives.objective import Objective, register
from objectives.paired import paired_errors
from pruning import Plan, trace
from pruning.errors import CheckpointError, DivergedError, RecoveryError
from search.config.inputs.user_code import UserReference, located, with_task
from search.config.spec import load_spec
from search.deliver.user_export import export_plain
from search.errors import ConfigError
from search.evaluate import user_task, workload
from search.export.errors import CheckFailed
from search.prepare.preflight import check_deployed
from search.study import Study
from search.trial import TrialState
from tests.search.conftest import run

DISCS = Path(__file__).parents[1] / "own" / "discs.py"
STUDY = """\
model: discs.py:build
figures: {mae: {unit: px, direction: min, title: MAE}}
imgsz: 32
device: cpu
name: discs
search: {trials: 3, hours: null}
space: {round_to: 2}
recover: {epochs: 1}
latency: {seconds: 0.2}
budgets: {edge: {mae: 2}}
keep: {weights: all}
"""


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's file, its trained weights and a study."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(DISCS, folder / "discs.py")
    subprocess.run([sys.executable, str(folder / "discs.py")], check=True)
    (folder / "study.yaml").write_text(STUDY)
    return folder


@pytest.fixture
def base(discs: Path) -> nn.Module:
    return workload.load_model(f"{discs / 'discs.py'}:build")


def test_the_whole_way(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    facts = json.loads(run("check", str(discs / "study.yaml"), "-f", "json").stdout)
    assert len(facts["dimensions"]) >= 2 and facts["time"] is None
    study = Study(discs / "study.yaml").search()
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 3, [t.error for t in study.trials()]
    first, unpruned = study.trials()[0].measurement, study.base()
    assert first is not None and unpruned is not None
    assert {"mae", "latency_ms", "params_m"} <= first.figures.keys() and study.spec.objectives[0] == "mae"
    assert 0 < unpruned.figures["mae"].low < unpruned.figures["mae"].value < 1.0  # px
    assert first.figures["params_m"].value < unpruned.figures["params_m"].value

    before = [trial.candidate for trial in study.trials()]
    assert run("resume", "discs", "search.trials=4").exit_code == 0
    again = Study.load(study.record.path)
    assert [trial.candidate for trial in again.trials()][:3] == before and len(again.trials()) == 4 and again.front()
    picked = run("pick", "discs", "--max", "mae=5")
    assert picked.exit_code == 0 and "has the lowest MAE" in picked.stdout, picked.output
    missed = run("pick", "discs", "--max", "mae=0.001")
    assert missed.exit_code == 3 and "It would fit mae<=" in missed.stderr
    assert run("report", "discs").exit_code == 0 and (study.record.path / "report.html").is_file()
    assert run("status", "discs").exit_code == run("show", "discs:0").exit_code == 0
    tuned = run("finetune", "discs:0", "epochs=2")
    assert tuned.exit_code == 0, tuned.output
    made = run("export", "discs:0", "format=onnx,torchscript")
    assert made.exit_code == 0 and made.stdout.count("passed") == 2, made.output
    timed = run("bench", "discs:base", "discs:0", "seconds=0.2", "-f", "json")
    assert timed.exit_code == 0, timed.output
    assert [row["model"] for row in json.loads(timed.stdout)] == ["discs:base", "discs:0"]
    _stands_alone(study.record.path / "picks" / "trial-0000")
    study.record.discard_preparation()
    made_ready = [path for name in ("base", "sensitivity", "latency") for path in (study.record.path / name).rglob("*")]
    left = {str(path.relative_to(study.record.path)) for path in made_ready if path.is_file()}
    later = {f"latency/{name}" for name in ("final.json", "together/train.log", "together/progress.json")}
    assert left <= {"base/prepare.log", *later}, "what a preparation leaves is known by name"


def _stands_alone(folder: Path) -> None:
    """What was delivered answers in a process that has neither this project nor the user's file."""
    code = (
        "import torch, onnxruntime, numpy as np\n"
        "x = np.random.default_rng(0).random((3, 1, 32, 32), dtype=np.float32)\n"
        "a = onnxruntime.InferenceSession('model.onnx').run(None, {'images': x})[0]\n"
        "b = torch.jit.load('model.torchscript')(torch.from_numpy(x)).detach().numpy()\n"
        "assert a.shape == (3, 1) and np.abs(a - b).max() < 1e-4\n"
        "assert 'state_dict' in torch.load('finetuned.pt', weights_only=True)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-I", "-c", code], cwd=folder, check=True)


# --- the study ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ef.py:task", UserReference(Path("ef.py"), "task")),
        ("/a/b c/ef.py:Task@/data/clips", UserReference(Path("/a/b c/ef.py"), "Task", "/data/clips")),
        ("best.pt", None),
        ("data.yaml", None),
        ("ef.py", None),
        ("ef.py:not a name", None),
        (None, None),
    ],
)
def test_references_are_read(text: object, expected: UserReference | None) -> None:
    assert UserReference.parse(text) == expected
    assert expected is None or UserReference.parse(str(expected)) == expected


@given(st.sampled_from(["ef.py:build", "best.pt"]), st.sampled_from([None, "ef.py:other", "other"]))
def test_a_task_becomes_the_data_of_an_own_model(model: str, task: str | None) -> None:
    study = {"model": model, **({"task": task} if task else {})}
    found = with_task(study)
    if (model == "best.pt" and task is None) or (model == "best.pt" and task == "other"):
        assert found == study
    else:
        assert found["data"] == f"ef.py:{'other' if task else 'task'}" and "task" not in found
    assert with_task(found) == found


def test_paths_are_those_of_the_study_file(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = load_spec(discs / "study.yaml")
    assert spec.model == f"{discs / 'discs.py'}:build" and spec.data == f"{discs / 'discs.py'}:task"
    assert spec.objectives == ("mae", "latency_ms", "params_m") and spec.run_name == "discs"
    assert located("a.py:task@clips", Path("/x")) == "/x/a.py:task@/x/clips"
    assert load_spec(None, spec.resolved()).resolved() == spec.resolved()


def test_figures_are_known_where_the_study_arrives(discs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(load_spec(discs / "study.yaml"))
    monkeypatch.delitem(objective._KNOWN, "mae")
    received = pickle.loads(sent)
    assert objective.OBJECTIVES["mae"] == Objective("mae", "px", "min", "MAE") and "mae" in received.objectives


@pytest.mark.parametrize("name", objective.NAMED_ONLY)
def test_a_figure_of_a_task_keeps_its_name_though_one_is_measured_here_now(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(objective._KNOWN, name, objective.OBJECTIVES[name])  # and back
    own = {"model": "own.py:build", "data": "own.py:task", "figures": {name: {"direction": "max", "unit": "%"}}}
    named = {"objectives": [name, "latency_ms"], "constraints": {name: ">=5"}}
    spec = load_spec(None, {**own, **named}, check_paths=False)
    assert objective.OBJECTIVES[name] == Objective(name, "%", "max", name)
    assert not spec.deployed and not workload.weight_figures(spec, nn.Linear(1, 1))
    check_deployed(spec)
    assert pickle.loads(pickle.dumps(spec)) == spec
    other = {"model": "best.pt", "data": "data.yaml", "figures": {name: {"direction": "min"}}}
    with pytest.raises(ConfigError, match="measured here already"):
        load_spec(None, other, check_paths=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "gone.py:build"}, "no such file: .*gone.py; expected an Ultralytics checkpoint .* or module.py:fun"),
        ({"figures": {"latency_ms": {"direction": "max"}}}, "'latency_ms' is measured here already"),
        ({"figures": {"m a e": {"direction": "min"}}}, "'m a e' cannot be a figure"),
        ({"figures": {"mae": {"direction": "down"}}}, "figures.mae.direction"),
        ({"objectives": ["rmse"]}, "Unknown objective 'rmse'"),
        ({"model": "best.pt", "task": "discs"}, "task: unknown key"),
        ({"space": {"precision": ["fp32", "int8"]}}, "a network of your own is not quantised; expected \\[fp32\\]"),
    ],
)
def test_faults_of_the_study(change: dict[str, Any], said: str, discs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(discs)
    with pytest.raises(ConfigError, match=said):
        load_spec(discs / "study.yaml", change)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=discs.py:bild"], "has no bild"),
        (["task=discs.py:samples"], "samples raised TypeError"),
        (["task=discs.py:SIZE"], "SIZE raised TypeError"),
        (["recover.fraction=1.0"], "recover.fraction is for Ultralytics' trainer"),
        (["space.importance=taylor"], "taylor needs labels"),
        (["figures={}", "objectives=[params_m]"], "evaluate\\(\\) gave 'mae', which the study does not declare"),
    ],
)
def test_faults_of_the_users_code_exit_2(
    words: list[str], said: str, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(discs, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    result = run("search", "study.yaml", "name=faulty", *words)
    assert result.exit_code == 2, result.output
    import re

    assert re.search(said, " ".join(result.stderr.split())), result.stderr


# --- the task ---


class Stub:
    """A task whose answers are given."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def batches(self, seed: int) -> Any:
        return self.answers["batches"]

    def finetune(self, model: nn.Module, *, epochs: int, seed: int, device: str, on_progress: Any) -> Any:
        return self.answers["finetune"](model)

    def evaluate(self, model: nn.Module, *, device: str) -> Any:
        return self.answers["evaluate"]


def test_batches_may_be_those_of_a_data_loader_and_end_at_the_count() -> None:
    inputs = [torch.zeros(3, 1, 4, 4) for _ in range(3)]
    pairs = [(one, torch.zeros(3)) for one in inputs]
    for given_ in (inputs, pairs):
        assert [len(one) for one in user_task.batches_of(Stub(batches=given_), 5, seed=0)] == [3, 2]
    with pytest.raises(RecoveryError, match="gave nothing"):
        list(user_task.batches_of(Stub(batches=[]), 5, seed=0))
    with pytest.raises(RecoveryError, match="gave a str"):
        list(user_task.batches_of(Stub(batches=["image.png"]), 5, seed=0))


def _broken(model: nn.Module) -> nn.Module:
    next(model.parameters()).data.fill_(math.nan)
    return model


@pytest.mark.parametrize(
    ("finetune", "error", "said"),
    [
        (lambda model: None, RecoveryError, "gave a NoneType"),
        (lambda model: nn.Linear(1, 1), RecoveryError, "other shapes"),
        (_broken, DivergedError, "not finite"),
    ],
)
def test_a_fine_tune_is_checked(finetune: Callable[[nn.Module], Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        user_task.finetuned(Stub(finetune=finetune), nn.Linear(2, 1), epochs=1, seed=0, device="cpu")


def test_samples_of_two_networks_are_compared_sample_by_sample() -> None:
    """A network that is worse by a little on every sample is worse for sure, however much the samples differ."""
    register(Objective("stub_a", "px", "min", "stub_a"))
    samples = torch.linspace(0, 10, 30)
    first, second = (
        user_task.judged(Stub(evaluate={"stub_a": samples + worse}), nn.Identity(), device="cpu") for worse in (0, 0.1)
    )
    assert first.figures["stub_a"].high - first.figures["stub_a"].low > 1
    assert paired_errors(second.replicates, first.replicates)["stub_a"] < 1e-4


def test_a_figure_is_a_number_a_pair_or_samples() -> None:
    for name in ("stub_a", "stub_b", "stub_c"):
        register(Objective(name, "px", "min", name))
    values = torch.arange(100.0)
    said = {"stub_a": 3, "stub_b": (2.0, 0.5), "stub_c": values}
    figures = user_task.judged(Stub(evaluate=said), nn.Identity(), device="cpu").figures
    assert figures["stub_a"].is_exact and figures["stub_a"].value == 3
    assert figures["stub_b"].standard_error == pytest.approx(0.5)
    assert figures["stub_c"].value == pytest.approx(49.5)
    assert figures["stub_c"].standard_error == pytest.approx(float(values.std()) / 10, rel=0.2)
    with pytest.raises(ValueError, match="must be finite"):
        user_task.judged(Stub(evaluate={"stub_a": math.nan}), nn.Identity(), device="cpu")


def test_a_pruned_network_comes_back_from_its_file(base: nn.Module, discs: Path, tmp_path: Path) -> None:
    image = torch.rand(2, 1, 32, 32)
    plan = trace(base, workload.example_input(base, 32)).plan(0.5)
    small = plan.apply(base).eval()
    workload.save_model(small, tmp_path / "small.pt", paretoprune_plan=plan.to_json())
    back = workload.load_model(tmp_path / "small.pt")
    assert torch.equal(back(image), small(image)) and not back.training
    assert torch.allclose(plan.mask(base)(image), small(image), atol=1e-5)
    assert isinstance(Plan.from_json(torch.load(tmp_path / "small.pt")["paretoprune_plan"]), Plan)


def test_a_file_whose_source_has_changed_is_refused(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("from torch import nn\ndef build():\n    return nn.Linear(2, 2)\n")
    model = workload.load_model(f"{tmp_path / 'two.py'}:build")
    workload.save_model(model, tmp_path / "a.pt")
    model.paretoprune_source = f"{discs / 'discs.py'}:build"  # type: ignore[assignment]
    workload.save_model(model, tmp_path / "b.pt")
    assert isinstance(workload.load_model(tmp_path / "a.pt"), nn.Linear)
    with pytest.raises(CheckpointError, match="cannot be built again from its source"):
        workload.load_model(tmp_path / "b.pt")


def test_a_source_that_fails_without_a_word_is_named_by_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> nn.Module:
        raise RuntimeError

    (tmp_path / "my.net.v2.py").write_text("from torch import nn\ndef build():\n    return nn.Linear(2, 2)\n")
    workload.save_model(workload.load_model(f"{tmp_path / 'my.net.v2.py'}:build"), tmp_path / "a.pt")
    monkeypatch.setattr(user_task, "build", fails)
    with pytest.raises(CheckpointError, match="from its source: RuntimeError"):
        workload.load_model(tmp_path / "a.pt")


def test_a_worse_file_is_not_delivered(base: nn.Module, discs: Path, tmp_path: Path) -> None:
    load_spec(discs / "study.yaml")  # its figures
    workload.save_model(base, tmp_path / "model.pt")
    asked: dict[str, Any] = {"data": f"{discs / 'discs.py'}:task", "imgsz": 32}
    with pytest.raises(CheckFailed, match="mae is worse by"):
        export_plain(tmp_path / "model.pt", tmp_path / "out", ["onnx"], max_drop=-1.0, **asked)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["export.json"]
    with pytest.raises(ConfigError, match="engine is not made of a model of your own"):
        export_plain(tmp_path / "model.pt", tmp_path / "out", ["engine"], **asked)


def test_one_plan_of_an_own_network(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`prune` without a search: a file that can be read, masked, and says what it cannot."""
    monkeypatch.chdir(discs)
    words = ("ratio=0.5", "round_to=2", "imgsz=32", f"out={tmp_path / 'half'}", "-f", "json")
    made = run("prune", "model=discs.py:build", *words)
    assert made.exit_code == 0, made.output
    facts = json.loads(made.stdout)
    assert facts["params_m"]["after"] < 0.4 * facts["params_m"]["before"]
    monkeypatch.chdir(tmp_path)  # the file knows where its source lies
    small = workload.load_model(facts["model"])
    assert sum(value.numel() for value in small.parameters()) == round(1e6 * facts["params_m"]["after"])
    again = run("prune", f"model={facts['model']}", "ratio=0.5", "imgsz=32", "out=again")
    assert again.exit_code == 2 and "is pruned already" in again.output
    masked = run("prune", f"model={facts['model']}", "mask=unstructured", "sparsity=0.5", "out=masked", "-f", "json")
    assert masked.exit_code == 0, masked.output
    assert json.loads(masked.stdout)["sparsity"]["after"] == pytest.approx(0.5, abs=0.01)
    tuned = run("finetune", "masked/masked.pt", f"data={discs / 'discs.py'}", "epochs=1")
    assert tuned.exit_code == 2 and "your own training loop" in " ".join(tuned.output.split())


def test_an_own_network_is_masked(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(discs)
    made = run("prune", "model=discs.py:build", "mask=2:4", f"out={tmp_path}", "-f", "json")
    assert made.exit_code == 0, made.output
    weight = workload.load_model(json.loads(made.stdout)["model"]).get_parameter("body.0.first.weight")
    assert ((weight.transpose(1, -1).reshape(-1, 4) == 0).sum(-1) >= 2).all(), "two of four along the inputs"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=discs.py:build", "data=discs.py", "ratio=0.5", "steps=2"], "pruning in steps is made for Ultralytics"),
        (["model=gone.py:build", "ratio=0.5"], "gone.py where: model="),
        (["model=discs.py:bild", "ratio=0.5", "imgsz=32"], "has no bild"),
    ],
)
def test_what_prune_cannot_do_with_an_own_network(
    words: list[str], said: str, discs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(discs)
    result = run("prune", *words)
    assert result.exit_code == 2 and said in " ".join(result.output.split()), result.output
