"""The ejection-fraction study: volumes are what labels say, the list is read as published, what is pruned stays so."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pruning import trace
from pruning.checkpoints.checkpoint import count_parameters
from search.config.spec import load_spec
from search.evaluate.workload import example_input, load_model
from studies.ejection_fraction import ef, experiments
from studies.ejection_fraction.echonet import read_clips, read_list
from studies.ejection_fraction.make_clips import Recipe, draw_clip, draw_heart, make_clips, systole

STUDY = Path(ef.__file__).parent
PUBLISHED = 11_177_025


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("ef") / "data", train=16, val=6, test=1, frames=8)


@pytest.mark.parametrize("seed", range(5))
def test_the_volume_of_the_cavity_gives_the_label(seed: int) -> None:
    heart = draw_heart(np.random.default_rng(seed), Recipe())
    volumes = [long * short**2 for long, short in map(heart.axes, np.linspace(0, 1, 2001))]
    assert 100 * (1 - min(volumes) / max(volumes)) == pytest.approx(heart.ef, abs=0.01)
    assert systole(0) == 0 and systole(0.35) == pytest.approx(1) and 0 <= systole(0.9) <= 1


def test_the_dark_area_beats(clips: Path) -> None:
    heart, frames = draw_clip("train", 0, Recipe(speckle=0.0))
    middle = tuple(round(value) for value in heart.centre[::-1])
    assert frames[(0, *middle)] < 60, "the cavity is dark"
    areas = [(frame < 60).sum() for frame in frames]
    expected = [np.prod(heart.axes(t / len(frames))) for t in range(len(frames))]
    assert np.corrcoef(areas, expected)[0, 1] > 0.9
    again = draw_clip("train", 0, Recipe(speckle=0.0))[1]
    assert np.array_equal(frames, again)


def test_the_published_list_is_read(clips: Path, tmp_path: Path) -> None:
    read = read_clips(clips, "val", frames=4, size=32)
    assert read.frames.shape == (6, 4, 32, 32) and read.frames.dtype == np.uint8
    assert ((read.ef > 0) & (read.ef < 100)).all()
    assert len(read_list(clips)) == 23 and len(read_list(clips, "train")) == 16
    columns = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split\n"  # EchoNet-Dynamic's own
    (tmp_path / "FileList.csv").write_text(columns + "0X1A2B,55.5,40.1,90.2,112,112,50,174,TRAIN\n")
    (row,) = read_list(tmp_path, "train")
    assert (row.ef, row.video) == (55.5, tmp_path / "Videos" / "0X1A2B.avi")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FileName,Split\na,TRAIN\n", "has no column EF"),
        ("FileName,EF,Split\na,much,TRAIN\n", "line 2: EF is 'much'"),
        ("FileName,EF,Split\na,550,TRAIN\n", "expected 0 to 100"),
        ("FileName,EF,Split\na,55,TEST\n", "no clip of the split VAL"),
        ("FileName,EF,Split\na,55,VAL\n", "cannot be read as a video"),
    ],
)
def test_a_list_that_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "FileList.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_clips(tmp_path, "val", 2, 32)
    with pytest.raises(FileNotFoundError, match=r"FileList\.csv"):
        read_list(tmp_path / "nowhere")


def test_the_network_is_the_published_one_and_all_of_it_is_free() -> None:
    model = ef.untrained()
    assert count_parameters(model) == PUBLISHED
    graph = trace(model, example_input(model, ef.SIZE))
    assert not graph.unsupported and graph.free_mac_share() > 0.99
    plan = graph.plan(0.5)
    clip = torch.rand(2, 3 * ef.FRAMES, ef.SIZE, ef.SIZE)
    small = plan.apply(model).eval()
    with torch.no_grad():
        assert torch.allclose(small(clip), plan.mask(model)(clip), atol=1e-3)
    assert count_parameters(small) == plan.cost().params < 0.3 * PUBLISHED


def test_masks_and_widths_survive_the_fine_tune(clips: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    parts = [read_clips(clips, split, ef.FRAMES, ef.SIZE) for split in ("train", "val")]
    keys: dict[str, Any] = {"unstructured": (0.8,), "structured": (0.5,), "seconds": 0.2, "say": lambda text: None}
    rows = experiments.run(experiments.Plan(*parts, tmp_path / "runs", epochs=1, tune_epochs=1, **keys))
    base, masked, narrow = rows
    assert base.params == masked.params == PUBLISHED and narrow.params < 0.3 * PUBLISHED
    assert masked.sparsity_before == masked.sparsity_after == pytest.approx(0.8, abs=1e-3)
    assert narrow.macs < 0.3 * base.macs == 0.3 * masked.macs
    assert min(row.latency_ms for row in rows) > 0, "timed; how long is up to what else this machine does"
    trained = load_model(tmp_path / "runs" / "unstructured-0.8.pt").state_dict()
    before = load_model(tmp_path / "runs" / "base.pt").state_dict()
    assert not torch.equal(trained["backbone.conv1.weight"], before["backbone.conv1.weight"]), "it was not trained"
    experiments.write(rows, {"seconds": 1}, tmp_path)
    table = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [row["name"] for row in table] == [row.name for row in rows] and (tmp_path / "figures.png").is_file()


def test_the_task_feeds_trains_and_judges(clips: Path) -> None:
    task, model = ef.Task(str(clips)), ef.untrained()
    batch = next(iter(task.batches(0)))
    assert batch.shape == (ef.BATCH, 3 * ef.FRAMES, ef.SIZE, ef.SIZE)
    assert 0 <= float(batch.min()) <= float(batch.max()) <= 1
    assert len(task.evaluate(model, device="cpu")["ef_mae"]) == 6
    spec = load_spec(STUDY / "study.yaml", check_paths=False)
    assert spec.imgsz == ef.SIZE and spec.objectives[0] == "ef_mae"


def test_the_figures_are_those_of_the_run() -> None:
    found = json.loads((STUDY / "results.json").read_text())
    base, *rows = found["rows"]
    assert base["params"] == PUBLISHED and [row["ratio"] for row in rows] == [0.5, 0.8, 0.9, 0.3, 0.5, 0.7]
    for row in rows:
        if row["kind"] == "unstructured":
            assert row["sparsity_after"] == row["sparsity_before"] == pytest.approx(row["ratio"], abs=2e-3)
        else:
            assert row["params"] < base["params"]
        assert f"{row['mae']:.2f}" in (STUDY / "README.md").read_text()
