from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from ultralytics.data.augment import LetterBox

from pruning.recovery.bn_calibration import calibration_batches
from pruning.recovery.images import letterboxed, listed_images, read_image
from tests.tiny_data import make_tiny_data


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_has_the_channels_that_the_data_say(channels: int, tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, size=32)
    data.write_text(yaml.safe_dump({**yaml.safe_load(data.read_text()), "channels": channels}))
    (batch,) = calibration_batches(data, 64, count=4)
    assert batch.shape == (4, channels, 64, 64) and 0 <= batch.min() < batch.max() <= 1


def test_pixels_are_those_of_ultralytics_own_data_set(tmp_path: Path) -> None:
    from ultralytics.data.dataset import YOLODataset

    data = make_tiny_data(tmp_path, size=40)
    for channels in (1, 3):
        said = {"names": {0: "a", 1: "b"}, "channels": channels}
        place = str(data.parent / "images" / "val")
        own = YOLODataset(img_path=place, data=said, augment=False, imgsz=64, rect=False)
        for index, file in enumerate(own.im_files):
            planes = letterboxed(file, LetterBox((64, 64), auto=False), channels)
            assert planes is not None and np.array_equal(planes, own[index]["img"].numpy())


def test_a_file_that_is_no_image_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"garbage")
    (tmp_path / "b.png").touch()
    assert [read_image(tmp_path / name, 3) for name in ("a.png", "b.png", "c.png")] == [None] * 3


def test_a_folder_without_images_has_none_and_one_that_is_missing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no list\n")
    assert listed_images(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        listed_images(tmp_path / "gone")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4, 3), np.uint8))
    assert listed_images([str(tmp_path)]) == [str(tmp_path / "a.png")]
