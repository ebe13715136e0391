"""A search of two sizes of two sides, of pictures of five channels: what is measured is what is delivered."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from objectives.image_size import Size, written
from pruning.checkpoints.checkpoint import count_parameters, load_model, save_model
from search.commands.timing.models import imgsz_of
from search.deliver.verified_export import export_model
from search.evaluate.workload import accuracy_of, example_input
from search.prepare.prepare import prepare_in_child
from search.study import Study
from search.trial import Measurement, TrialState
from tests.search.conftest import run
from tests.tiny_data import CLASSES, make_tiny_data

CHANNELS, OWN, LOWER = 5, (64, 96), (32, 64)
KEYS: dict[str, Any] = {
    "imgsz": list(OWN),
    "space.imgsz": [[64, 96], [32, 64]],
    "device": "cpu",
    "name": "wide",
    "space.depth": True,
    "recover.epochs": 1,
    "recover.spend": "equal",
    "recover.batch": 6,
    "latency.seconds": 0.2,
    "search.trials": 2,
    "search.sampler": "random",
    "search.seed": 1,
    "keep.weights": "all",
    "baselines": ["lower_size"],
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Study:
    from ultralytics.nn.tasks import DetectionModel

    place = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    model: Any = DetectionModel("yolov8n.yaml", ch=CHANNELS, nc=len(CLASSES), verbose=False)
    model.names, model.args, model.task = dict(enumerate(CLASSES)), {"imgsz": 96}, "detect"
    save_model(model, place / "base.pt")
    data = make_tiny_data(place / "data", size=(72, 128), channels=CHANNELS)
    return Study(model=str(place / "base.pt"), data=str(data), project=str(place / "runs"), **KEYS)


def check(measured: Measurement, size: Size, weights: Path, study: Study, work: Path) -> None:
    """Cost and accuracy of a trial are those of its checkpoint at its size."""
    network, figures = load_model(weights), measured.figures
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(example_input(network, size))
    assert figures["macs_g"].value == pytest.approx(counter.get_total_flops() / 2e9)
    assert figures["params_m"].value == pytest.approx(count_parameters(network) / 1e6)
    again = accuracy_of(weights, study.spec, size, "cpu", work)
    assert again.figures["map50_95"] == figures["map50_95"]


def test_a_trial_is_measured_exported_and_verified_at_its_size(wide: Study, tmp_path: Path) -> None:
    (base_dir := tmp_path / "base").mkdir()
    spec = wide.spec.model_copy(update={"space": wide.spec.space.model_copy(update={"imgsz": None})})  # one trace less
    prepared = prepare_in_child(spec, base_dir, None)
    candidate, folder = prepared.space.uniform(0.5), tmp_path / "trial"
    folder.mkdir()
    found = prepared.evaluator.evaluate(candidate, 0, 0, folder)
    check(found, OWN, folder / "weights.pt", wide, tmp_path / "again")
    assert imgsz_of(base_dir / "base.onnx") == OWN
    report = export_model(
        folder / "weights.pt", tmp_path / "out", ["onnx"], data=wide.spec.data, imgsz=OWN, quantize=8, max_drop=1
    )
    (made,) = report.artefacts
    assert made.passed and made.parity is not None and made.parity.inputs == "val" and report.imgsz == OWN
    (given,) = onnx.load(str(tmp_path / "out" / made.path)).graph.input
    assert [side.dim_value for side in given.type.tensor_type.shape.dim] == [1, CHANNELS, *OWN]
    assert imgsz_of(tmp_path / "out" / made.path) == OWN == imgsz_of(folder / "weights.pt")


def written_commands(*names: str) -> list[list[str]]:
    """The words of commands of docs/input_size.md at the sizes of this study; their files lie in the working folder."""
    page = (Path(__file__).parents[3] / "docs" / "input_size.md").read_text().replace("384,640", "64,96")
    lines = [line.split()[1:] for line in page.splitlines() if line.startswith("paretoprune ")]
    found = [words for words in lines if words[0] in names]
    assert {words[0] for words in found} == set(names)
    return found


@pytest.mark.slow
def test_a_search_of_sizes_of_two_sides_and_what_comes_after_it(
    wide: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide.search()
    trials, run_folder = wide.trials(), wide.record.path
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}, [trial.error for trial in trials]
    assert {trial.candidate.imgsz for trial in trials} <= {OWN, LOWER}
    for trial in trials:
        assert trial.measurement is not None
        weights = wide.record.trial_dir(trial.number) / "weights.pt"
        check(trial.measurement, trial.candidate.imgsz, weights, wide, tmp_path / "again")
    header, *rows = (run_folder / "results.csv").read_text().splitlines()
    at = header.split(",").index("imgsz")
    assert [row.split(",")[at] for row in rows] == [str(written(trial.candidate.imgsz)) for trial in trials]
    table = json.loads((wide.record.base_dir / "whatif.json").read_text())
    assert table["sizes"] == list(table["cost"]["macs"]) == ["64x96", "32x64"]
    base, said = wide.base(), json.loads((run_folder / "snapshot.json").read_text())["baselines"]
    assert base is not None
    shares = {row["name"]: row["figures"]["macs_g"]["value"] / base.figures["macs_g"].value for row in said}
    assert shares == {"the base at 64 px": pytest.approx(2 / 3), "the base at 32x64 px": pytest.approx(1 / 3)}
    monkeypatch.chdir(tmp_path)
    shutil.copy(wide.spec.model, "best.pt")
    shutil.copy(wide.spec.data, "data.yaml")
    size = str(written(trials[0].candidate.imgsz))
    made = run("export", f"{run_folder}:0", "format=onnx", "quantize=8,32", "--max-drop", "1")
    assert made.exit_code == 0, made.output
    assert f"validated on {size} (height x width)" in (run_folder / "picks/trial-0000/model_card.md").read_text()
    made = run("finetune", f"{run_folder}:0", "epochs=1")
    assert made.exit_code == 0 and imgsz_of(run_folder / "picks/trial-0000/finetuned.pt") == trials[0].candidate.imgsz
    for words in written_commands("prune", "compare"):
        made = run(*words)
        assert made.exit_code == 0, made.output
    assert imgsz_of(Path("wide/pruned.pt")) == OWN
    made = run("bench", str(run_folder), "--bundle", str(tmp_path / "kit.zip"), "seconds=0.2")
    with zipfile.ZipFile(tmp_path / "kit.zip") as kit:
        models = json.loads(kit.read("manifest.json"))["models"]
    assert made.exit_code == 0 and models[0]["imgsz"] == list(OWN) and models[0]["channels"] == CHANNELS
