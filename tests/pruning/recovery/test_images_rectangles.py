"""A fine-tune at two sides sees its pictures as they are deployed: letterboxed into exactly these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn
from ultralytics.models.rtdetr.val import RTDETRDataset

from pruning.data_importance import labelled_batches
from pruning.recovery.bn_calibration import calibration_batches
from pruning.recovery.finetune import Recovery, data_trainer, recover, trainer_of
from pruning.recovery.images import give_rectangles
from pruning.recovery.judge import TrainingLoss, evaluation_dataset, most_images
from pruning.recovery.repair import calibration_images
from tests.pruning import zoo
from tests.tiny_data import make_tiny_data

SHAPE = (64, 96)
PLAIN = {"degrees": 0.0, "translate": 0.0, "scale": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}


def training_set(name: str, data: Path, tmp_path: Path, **train: Any) -> Any:
    """The data set of a fine-tune of SHAPE, as its trainer builds it."""
    model = zoo.for_tiny_data(name)
    trainer = data_trainer(model, data, Recovery(imgsz=max(SHAPE), train={**PLAIN, **train}), tmp_path)
    dataset = trainer.build_dataset(trainer.data["train"], "train", 4)
    give_rectangles(dataset, *SHAPE)
    return dataset


def is_inside(image: Any, box: Any) -> bool:
    """Whether the box (centre and sides as shares of the image) holds the picture's dark or bright rectangle, tightly.

    Image (3, H, W) of `tiny_data`: grey noise, grey padding, one rectangle.
    """
    grey = image.float().mean(0)
    ys, xs = np.nonzero(((grey < 40) | (grey > 200)).numpy())
    height, width = grey.shape
    x, y, w, h = (float(v) for v in box)
    wanted = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
    return bool(np.allclose([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], wanted, atol=2))


@pytest.mark.parametrize("pictures", [(72, 128), (128, 72), (90, 90)])
@pytest.mark.parametrize("name", ["yolov8n.yaml", "yolov8n-seg.yaml"])
def test_pictures_fit_and_labels_stay_on_their_objects(name: str, pictures: tuple[int, int], tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", zoo.task_of(name), images=6, size=pictures)
    dataset = training_set(name, data, tmp_path)
    for item in (dataset[index] for index in range(len(dataset))):
        assert item["img"].shape == (3, *SHAPE)
        assert is_inside(item["img"], item["bboxes"][0])
        assert "masks" not in item or item["masks"].shape[1:] == (SHAPE[0] // 4, SHAPE[1] // 4)


def test_pictures_of_rt_detr_are_stretched(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", images=6, size=(90, 90))
    trainer = data_trainer(zoo.for_tiny_data("yolov8n.yaml"), data, Recovery(train=PLAIN), tmp_path)
    dataset = RTDETRDataset(
        img_path=trainer.data["train"], imgsz=max(SHAPE), data=trainer.data, hyp=trainer.args, augment=True
    )
    give_rectangles(dataset, *SHAPE)
    image, box = dataset[0]["img"], dataset[0]["bboxes"][0]
    assert image.shape == (3, *SHAPE) and not bool((image == 114).all(0).any()), "nothing is padded"
    assert is_inside(image, box)
    dataset.close_mosaic(trainer.args)
    closed = dataset[0]
    assert closed["img"].shape == (3, *SHAPE) and is_inside(closed["img"], closed["bboxes"][0]), "for the last epochs"


def test_mosaics_are_cropped_and_what_is_mixed_in_fits_too(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path / "data", images=6, size=(72, 128))
    mixing = training_set("yolov8n.yaml", data, tmp_path, mosaic=1.0, mixup=1.0)
    assert {tuple(mixing[index]["img"].shape[1:]) for index in range(len(mixing))} == {SHAPE}
    mixing.close_mosaic(data_trainer(zoo.for_tiny_data("yolov8n.yaml"), data, Recovery(), tmp_path).args)
    assert {tuple(mixing[index]["img"].shape[1:]) for index in range(len(mixing))} == {SHAPE}, "for the last epochs"


@pytest.mark.parametrize(("train", "shape"), [({}, SHAPE), ({"rect": True}, (96, 96))])
def test_a_fine_tune_is_trained_on_these_sides_unless_the_user_asks_for_those_of_batches(
    train: dict[str, Any], shape: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, model = set[tuple[int, ...]](), zoo.for_tiny_data("yolov8n.yaml")
    kind = trainer_of(model)
    prepare = kind.preprocess_batch

    def watch(self: Any, batch: Any) -> Any:
        seen.add(tuple(batch["img"].shape[2:]))
        return prepare(self, batch)

    monkeypatch.setattr(kind, "preprocess_batch", watch)
    data = make_tiny_data(tmp_path / "data", images=6, size=(96, 128))
    how = Recovery(epochs=1, imgsz=SHAPE, batch=3, train=train)
    assert isinstance(recover(model, data, how, work_dir=tmp_path / "work"), nn.Module)
    assert seen == {shape}


def test_what_judges_and_corrects_it_has_these_sides(tmp_path: Path) -> None:
    data, model = make_tiny_data(tmp_path / "data", images=8, size=(72, 128)), zoo.for_tiny_data("yolov8n.yaml")
    trainer = data_trainer(model, data, Recovery(imgsz=SHAPE), tmp_path)
    assert {tuple(batch["img"].shape[2:]) for batch in TrainingLoss.of(trainer).batches} == {SHAPE}
    assert evaluation_dataset(trainer)[0]["img"].shape[1:] == SHAPE
    assert {tuple(batch.shape[2:]) for batch in calibration_batches(data, SHAPE, 4)} == {SHAPE}
    assert {tuple(batch["img"].shape[2:]) for batch in labelled_batches(model, data, SHAPE, count=8, batch=4)} == {
        SHAPE
    }


def test_as_many_images_as_a_square_of_these_pixels() -> None:
    for count in (most_images, calibration_images):
        assert count((256, 1024)) == count(512) and count((640, 640)) == count(640)
