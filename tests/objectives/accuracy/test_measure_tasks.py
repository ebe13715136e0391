"""Every task: our figures are those of `YOLO.val`, and the errors that a network makes show where they should."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from objectives import AccuracyError
from objectives.accuracy.measure import Accuracy, measure_accuracy
from objectives.objective import MAIN_FIGURES, OBJECTIVES
from tests.objectives.doubles import by_ultralytics, looking, never, sometimes
from tests.tiny_data import CLASSES, make_tiny_data

TASKS = ("detect", "segment", "pose", "obb", "classify")
OF_TASK = {
    "detect": {"map50_95": "box.map", "map50": "box.map50", "precision": "box.mp", "recall": "box.mr"},
    "segment": {"map50_95": "box.map", "mask_map50_95": "seg.map", "mask_map50": "seg.map50"},
    "pose": {"map50_95": "box.map", "pose_map50_95": "pose.map", "pose_map50": "pose.map50"},
    "obb": {"map50_95": "box.map", "map50": "box.map50", "precision": "box.mp", "recall": "box.mr"},
    "classify": {"top1": "top1", "top5": "top5"},
}
SIZE = 64


@pytest.fixture(scope="module")
def data_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """24 validation images of every task; all objects are small, 21 to 31 px."""
    return {task: make_tiny_data(tmp_path_factory.mktemp(task), task, images=48) for task in TASKS}


def told(metrics: Any, path: str) -> float:
    for name in path.split("."):
        metrics = getattr(metrics, name)
    return float(metrics)


def measured(task: str, data: Path, *errs: Any, **options: Any) -> Accuracy:
    return measure_accuracy(looking(task, *errs), data, imgsz=SIZE, batch=4, **options)


@pytest.mark.parametrize("task", TASKS)
def test_figures_are_those_of_yolo_val(task: str, data_of: dict[str, Path], tmp_path: Path) -> None:
    model = looking(task, sometimes)
    by_them = by_ultralytics(model, data_of[task], SIZE, tmp_path)
    ours = measure_accuracy(model, data_of[task], imgsz=SIZE, batch=4)
    for name, path in OF_TASK[task].items():
        assert ours.figures[name].value == told(by_them, path), name
    assert ours.figures.keys() <= OBJECTIVES.keys() and MAIN_FIGURES[task] in ours.figures
    assert ours.images == 24 and set(ours.per_class) == set(CLASSES) == set(ours.per_class_error)
    main = ours.figures[MAIN_FIGURES[task]]
    assert 0.2 < main.value < 0.95 and 0.02 < main.standard_error < 0.2
    assert sum(ours.per_class.values()) / 2 == pytest.approx(main.value, abs=0.05)


@pytest.mark.parametrize(("task", "main"), [("segment", "mask_map50_95"), ("pose", "pose_map50_95")])
def test_an_error_of_masks_or_keypoints_leaves_the_boxes_alone(task: str, main: str, data_of: dict[str, Path]) -> None:
    right, wrong = measured(task, data_of[task]), measured(task, data_of[task], never, sometimes)
    assert wrong.figures["map50_95"] == right.figures["map50_95"]
    assert right.figures[main].value > 0.5  # masks are a quarter of the input, so edges are coarse
    assert wrong.figures[main].value < right.figures[main].value - 0.05
    assert max(wrong.per_class.values()) < max(right.per_class.values())


def test_a_turned_box_is_judged_by_its_angle(data_of: dict[str, Path]) -> None:
    right, wrong = measured("obb", data_of["obb"]), measured("obb", data_of["obb"], never, sometimes)
    assert wrong.figures["map50_95"].value < right.figures["map50_95"].value - 0.02


def test_where_all_objects_are_small_the_figure_of_small_ones_is_the_figure(data_of: dict[str, Path]) -> None:
    """Also at twice the size: an object is small by its px in the original image."""
    for task in ("detect", "segment", "obb"):
        for size in (SIZE, 2 * SIZE):
            ours = measure_accuracy(looking(task, sometimes), data_of[task], imgsz=size, batch=4)
            for name in ("map50_95", "mask_map50_95"):
                if name in ours.figures:
                    small = ours.figures[name.replace("map50_95", "map_small")]
                    assert small.value == pytest.approx(ours.figures[name].value, abs=1e-9), (task, size)


def test_without_small_objects_there_is_no_figure_of_them(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, images=8, size=128)  # 42 to 63 px
    for size in (64, 128):  # at half the size they cover few px of the input
        assert "map_small" not in measure_accuracy(looking("detect"), data, imgsz=size, batch=4).figures


def test_prepared_batches_give_the_same_figures(data_of: dict[str, Path], tmp_path: Path) -> None:
    for task in TASKS:
        shelf = tmp_path / task
        first = measured(task, data_of[task], sometimes, shelf=shelf)
        (stored,) = shelf.iterdir()
        before = stored.stat().st_mtime_ns
        again = measured(task, data_of[task], sometimes, shelf=shelf)
        plain = measured(task, data_of[task], sometimes)
        assert first == again == plain
        assert stored.stat().st_mtime_ns == before


def test_prepared_batches_are_read_and_not_the_images(data_of: dict[str, Path], tmp_path: Path) -> None:
    import ultralytics.data.base as base

    measured("detect", data_of["detect"], shelf=tmp_path)
    reads, imread = [], base.imread
    base.imread = lambda *a, **k: reads.append(a) or imread(*a, **k)  # type: ignore[func-returns-value]
    try:
        measured("detect", data_of["detect"], shelf=tmp_path)
        assert not reads
        measured("detect", data_of["detect"])
        assert reads
    finally:
        base.imread = imread


@pytest.mark.parametrize("change", ["label", "image", "size"])
def test_changed_data_are_prepared_again(change: str, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", images=8)
    shelf = tmp_path / "shelf"
    first = measured("detect", data, shelf=shelf)
    (before,) = shelf.iterdir()
    if change == "label":
        label = next((data.parent / "labels" / "val").iterdir())
        label.write_text(label.read_text().replace("0 ", "1 ", 1) if label.read_text()[0] == "0" else "")
    if change == "image":
        next((data.parent / "images" / "val").iterdir()).unlink()
    size = 2 * SIZE if change == "size" else SIZE
    again = measure_accuracy(looking("detect"), data, imgsz=size, batch=4, shelf=shelf)
    assert again == measure_accuracy(looking("detect"), data, imgsz=size, batch=4)
    names = {path.name for path in shelf.iterdir()}
    assert (before.name in names) == (change == "size")  # sizes lie side by side, old data do not
    assert change == "size" or again != first


def test_a_damaged_shelf_is_filled_again(data_of: dict[str, Path], tmp_path: Path) -> None:
    first = measured("detect", data_of["detect"], shelf=tmp_path)
    (stored,) = tmp_path.iterdir()
    stored.write_bytes(b"half a file")
    assert measured("detect", data_of["detect"], shelf=tmp_path) == first
    assert stored.stat().st_size > 1000


def test_folders_of_unknown_classes_are_refused(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, "classify", images=8)
    (data / "val" / "dark").rename(data / "val" / "dim")
    with pytest.raises(AccuracyError, match=r"folders of others: dim\. Expected a folder per class"):
        measured("classify", data)
    with pytest.raises(AccuracyError, match="split 'test', cannot be used: expected the folder"):
        measured("classify", data, split="test")


def test_the_error_of_top1_is_that_of_a_share(data_of: dict[str, Path]) -> None:
    top1 = measured("classify", data_of["classify"], sometimes, resamples=2000).figures["top1"]
    by_formula = (top1.value * (1 - top1.value) / 24) ** 0.5
    assert top1.standard_error == pytest.approx(by_formula, rel=0.1)


@pytest.mark.parametrize("task", TASKS)
def test_images_stay_paired_whatever_seed_a_training_has_left(task: str, data_of: dict[str, Path]) -> None:
    """Ultralytics' loader of a classifier shuffles by it; differences of models are taken image by image."""
    torch.manual_seed(1)
    before = measured(task, data_of[task], sometimes).replicates
    torch.manual_seed(2)
    assert measured(task, data_of[task], sometimes).replicates == before
    assert torch.initial_seed() == 2


def test_rtdetr_is_measured_by_its_own_validator(data_of: dict[str, Path], tmp_path: Path) -> None:
    """Its boxes are shares of the image; read as a YOLO's, in pixels, the right ones would be all wrong."""
    from ultralytics import RTDETR
    from ultralytics.nn.tasks import RTDETRDetectionModel

    yolo, data = looking("detect"), data_of["detect"]
    model: Any = RTDETRDetectionModel("rtdetr-l.yaml", nc=len(CLASSES), verbose=False)
    model.names, model.task = yolo.names, "detect"

    def answer(images: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        head = yolo.forward(images).transpose(1, 2)  # (images, 1, 4 + classes), boxes in px
        scores, labels = head[..., 4:].max(-1, keepdim=True)
        return torch.cat([head[..., :4] / SIZE, scores, labels.to(head)], dim=-1)

    model.forward = answer
    found = measure_accuracy(model.eval(), data, imgsz=SIZE, batch=4, resamples=2)
    by_them = RTDETR("rtdetr-l.yaml")
    by_them.model = copy.deepcopy(model)
    theirs = by_them.val(
        data=str(data), imgsz=SIZE, batch=4, device="cpu", plots=False, verbose=False, project=str(tmp_path)
    )
    assert found.figures["map50_95"].value > 0.9
    assert found.figures["map50_95"].value == pytest.approx(theirs.box.map)
