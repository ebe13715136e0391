from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from objectives import AccuracyError
from objectives.accuracy.measure import Accuracy, class_labels, measure_accuracy
from objectives.class_drop import largest_drop
from objectives.runtimes.open import export_for_timing
from tests.objectives.rectangles import NAMES, SIZE, state_of, unchanged, write_data


class Oracle:
    """Replaces a YOLO's forward: reads the rectangle and its colour off the image, so the true accuracy is
    1."""

    def __init__(self, wrong_every: int = 0) -> None:
        self.wrong_every = wrong_every

    def __call__(self, images: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        # Boxes xywh in pixels and one score per class: (B, 4 + classes, anchors), as the detection head gives
        # them.
        output = torch.zeros(len(images), 4 + len(NAMES), 8)
        for i, image in enumerate(images):
            spread = image.amax(0) - image.amin(0)
            ys, xs = torch.nonzero(spread > 0.5, as_tuple=True)
            if len(xs) == 0:
                continue
            # OpenCV writes BGR, the loader gives RGB: COLOURS[0] = (255, 0, 0) is blue, channel 2.
            channel = 2 - int(image[:, int(ys.median()), int(xs.median())].argmax())
            x0, x1, y0, y1 = xs.min(), xs.max() + 1, ys.min(), ys.max() + 1
            # By place, not by turn: Ultralytics warms up on uninitialised memory, which may look like a turn.
            if self.wrong_every and int(x0 + y0) % self.wrong_every == 0:
                channel = (channel + 1) % 3
            output[i, :4, 0] = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dtype=torch.float32)
            output[i, 4 + channel, 0] = 0.9
        return output


def seeing(model: Any, wrong_every: int = 0) -> Any:
    twin = deepcopy(model)
    twin.forward = Oracle(wrong_every)
    return twin


@pytest.fixture(scope="module")
def measured(tiny_yolo: Any, tiny_data: Path) -> Accuracy:
    return measure_accuracy(tiny_yolo, tiny_data, imgsz=SIZE, batch=4)


def test_every_figure_has_an_interval_and_a_name(measured: Accuracy) -> None:
    assert set(measured.figures) == {"map50_95", "map50", "precision", "recall", "map_small"}
    assert all(0 <= e.low <= e.value <= e.high <= 1 for e in measured.figures.values())
    assert measured.images == 8 and measured.labels == 8 and measured.resamples == 100
    assert set(measured.per_class) <= set(NAMES)


def test_a_model_that_sees_has_the_accuracy_of_one(tiny_yolo: Any, tiny_data: Path) -> None:
    result = measure_accuracy(seeing(tiny_yolo), tiny_data, imgsz=SIZE, batch=4)
    assert result.figures["map50"].value == pytest.approx(0.995, abs=0.006)  # Ultralytics' best possible AP
    assert result.figures["map50"].is_exact or result.figures["map50"].high - result.figures["map50"].low < 0.01
    assert list(result.per_class.values()) == pytest.approx([0.995] * len(result.per_class), abs=0.006)


def test_a_model_that_errs_has_a_wider_interval(tiny_yolo: Any, tiny_data: Path) -> None:
    result = measure_accuracy(seeing(tiny_yolo, wrong_every=3), tiny_data, imgsz=SIZE, batch=4)
    map50 = result.figures["map50"]
    assert 0.2 < map50.value < 0.95
    assert map50.standard_error > 0.03


def test_figures_are_those_of_yolo_val(tiny_yolo: Any, tiny_data: Path, tmp_path: Path) -> None:
    from ultralytics import YOLO

    model = seeing(tiny_yolo, wrong_every=3)
    yolo = YOLO("yolov8n.yaml", verbose=False)
    yolo.model = deepcopy(model)
    told = yolo.val(
        data=str(tiny_data),
        imgsz=SIZE,
        batch=4,
        device="cpu",
        plots=False,
        verbose=False,
        project=str(tmp_path),
    ).box
    ours = measure_accuracy(model, tiny_data, imgsz=SIZE, batch=4).figures
    assert [ours[n].value for n in ("map50_95", "map50", "precision", "recall")] == pytest.approx(
        [told.map, told.map50, told.mp, told.mr]
    )


def test_the_same_call_gives_the_same_figures(tiny_yolo: Any, tiny_data: Path) -> None:
    first, second = (
        measure_accuracy(seeing(tiny_yolo, wrong_every=3), tiny_data, imgsz=SIZE, batch=4) for _ in range(2)
    )
    assert first == second


def test_model_process_and_disk_are_as_before(
    tiny_yolo: Any,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    tiny_yolo.train()
    before, threads = state_of(tiny_yolo), torch.get_num_threads()
    with caplog.at_level(logging.INFO):
        measure_accuracy(tiny_yolo, tiny_data, imgsz=SIZE, batch=4, work_dir=tmp_path / "work")
    assert unchanged(tiny_yolo, before) and tiny_yolo.training
    assert all(p.requires_grad for n, p in tiny_yolo.named_parameters() if "dfl" not in n)
    tiny_yolo.eval()
    assert torch.get_num_threads() == threads
    assert not list(cwd.iterdir()) and not list((tmp_path / "work").iterdir())
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == "" and not caplog.records


def test_a_narrower_model_of_stock_classes_is_not_rebuilt(tiny_yolo: Any, tiny_data: Path) -> None:
    """Remove half of the inner channels of one bottleneck: widths that no YAML has."""
    pruned = deepcopy(tiny_yolo)
    first, second = pruned.model[2].m[0].cv1, pruned.model[2].m[0].cv2
    kept = first.conv.out_channels // 2
    first.conv = _narrow(first.conv, out=kept)
    first.bn = _narrow_norm(first.bn, kept)
    second.conv = _narrow(second.conv, into=kept)
    shape = first.conv.weight.shape
    result = measure_accuracy(pruned, tiny_data, imgsz=SIZE, batch=4)
    assert pruned.model[2].m[0].cv1.conv.weight.shape == shape
    assert result.images == 8


def _narrow(conv: nn.Conv2d, out: int | None = None, into: int | None = None) -> nn.Conv2d:
    new = nn.Conv2d(into or conv.in_channels, out or conv.out_channels, 3, padding=1, bias=False)
    new.weight.data = conv.weight.data[:out, :into].clone()
    return new


def _narrow_norm(norm: nn.BatchNorm2d, kept: int) -> nn.BatchNorm2d:
    new = nn.BatchNorm2d(kept, eps=norm.eps, momentum=norm.momentum)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(new, name).data = getattr(norm, name).data[:kept].clone()
    return new


def test_checkpoint_and_onnx_file_are_measured(
    tiny_yolo: Any, tiny_data: Path, tmp_path: Path, measured: Accuracy
) -> None:
    checkpoint = tmp_path / "model.pt"
    torch.save({"model": deepcopy(tiny_yolo), "train_args": {}}, checkpoint)
    assert measure_accuracy(checkpoint, tiny_data, imgsz=SIZE, batch=4) == measured
    path = export_for_timing(tiny_yolo, tmp_path / "model.onnx", imgsz=SIZE)
    by_onnx = measure_accuracy(path, tiny_data, imgsz=SIZE)
    for name, estimate in measured.figures.items():
        assert by_onnx.figures[name].value == pytest.approx(estimate.value, abs=1e-3)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("red", "green"), r"has 3 classes, data .* have 2 \(red, green\)"),
        (
            ("green", "red", "blue"),
            "same classes in another order: red, green, blue against green, red, blue",
        ),
    ],
)
def test_classes_that_do_not_match(tiny_yolo: Any, tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    data = write_data(tmp_path, images=1, names=names)
    with pytest.raises(AccuracyError, match=said):
        measure_accuracy(tiny_yolo, data, imgsz=SIZE)


def test_an_empty_split(tiny_yolo: Any, tmp_path: Path) -> None:
    data = write_data(tmp_path, images=0)
    with pytest.raises(AccuracyError, match=r"split 'val' of .*No images found|split 'val'.*Error loading data"):
        measure_accuracy(tiny_yolo, data, imgsz=SIZE)


def test_a_split_without_labels(tiny_yolo: Any, tmp_path: Path) -> None:
    data = write_data(tmp_path, images=2, labelled=False)
    with pytest.raises(AccuracyError, match=r"None of the 2 images in split 'val'.*has a label"):
        measure_accuracy(tiny_yolo, data, imgsz=SIZE)


def test_a_split_that_is_not_there(tiny_yolo: Any, tiny_data: Path) -> None:
    with pytest.raises(AccuracyError, match="split 'test', cannot be used"):
        measure_accuracy(tiny_yolo, tiny_data, imgsz=SIZE, split="test")


def test_the_download_script_of_a_data_yaml_is_not_run(tiny_yolo: Any, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    text = f"path: {tmp_path}\ntrain: no\nval: no\nnames: [red, green, blue]\n"
    (tmp_path / "data.yaml").write_text(text + f"download: open({str(trap)!r}, 'w')\n")
    with pytest.raises(AccuracyError, match="cannot be used"):
        measure_accuracy(tiny_yolo, tmp_path / "data.yaml", imgsz=SIZE)
    assert not trap.exists()


def test_what_is_not_an_ultralytics_model(tiny_data: Path, tmp_path: Path) -> None:
    with pytest.raises(AccuracyError, match="Identity is not an Ultralytics model"):
        measure_accuracy(nn.Identity(), tiny_data, imgsz=SIZE)
    with pytest.raises(AccuracyError, match="no model at"):
        measure_accuracy(tmp_path / "none.pt", tiny_data, imgsz=SIZE)
    for name, said in (
        ("a.pt", "could not be loaded"),
        ("a.onnx", "not an ONNX file that"),
        ("a.txt", "found .txt"),
    ):
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(AccuracyError, match=said):
            measure_accuracy(tmp_path / name, tiny_data, imgsz=SIZE)


def test_a_task_without_an_entry(tiny_yolo: Any, tiny_data: Path) -> None:
    model = deepcopy(tiny_yolo)
    model.task = "depth"
    with pytest.raises(AccuracyError, match=r"task 'depth' cannot be measured yet\. Tasks that can: detect"):
        measure_accuracy(model, tiny_data, imgsz=SIZE)


@given(
    st.dictionaries(st.integers(0, 20), st.sampled_from(["cat", "dog", "cat (class 1)", "cat (class 2)"]), max_size=12)
)
def test_every_class_has_a_label_of_its_own(names: dict[int, str]) -> None:
    labels = class_labels(names)
    assert set(labels) == set(names) and len(set(labels.values())) == len(names)
    assert all(labels[number].startswith(name) for number, name in names.items())
    if len(set(names.values())) == len(names):
        assert labels == names


def test_classes_of_one_name_are_judged_apart(tiny_yolo: Any, tmp_path: Path) -> None:
    """A model that calls every second class by the first one's number: a guard must see which class was lost."""
    names = ("thing", "thing", "other")
    data = write_data(tmp_path, names=names, images=12)
    sees, errs = seeing(tiny_yolo), seeing(tiny_yolo)
    sees.names = errs.names = dict(enumerate(names))
    oracle = errs.forward
    errs.forward = lambda images, *rest, **more: _without_class_1(oracle(images))
    before, after = (measure_accuracy(model, data, imgsz=SIZE, batch=4) for model in (sees, errs))
    assert set(before.per_class) == {"thing (class 0)", "thing (class 1)", "other"} == set(before.per_class_error)
    lost = largest_drop(before.per_class, after.per_class, after.per_class_error)
    assert lost is not None and lost[0] == "thing (class 1)" and lost[1].value > 0.9


def _without_class_1(output: torch.Tensor) -> torch.Tensor:
    output[:, 4] = torch.maximum(output[:, 4], output[:, 5])
    output[:, 5] = 0
    return output


def test_labels_that_are_all_out_of_range_are_one_line(tiny_yolo: Any, tmp_path: Path) -> None:
    data = write_data(tmp_path, images=12)
    for file in (tmp_path / "labels" / "val").iterdir():
        file.write_text("9 0.5 0.5 0.1 0.1\n")
    with pytest.raises(AccuracyError, match="Label class 9 exceeds dataset class count 3") as refused:
        measure_accuracy(tiny_yolo, data, imgsz=SIZE)
    assert len(str(refused.value).splitlines()) == 1 and "lines more" in str(refused.value)
