"""At an input size of two sides every image is letterboxed to exactly these, whatever its own shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from objectives.accuracy.measure import measure_accuracy
from objectives.errors import AccuracyError
from tests.objectives.doubles import Looking, looking
from tests.tiny_data import make_tiny_data

SHAPE = (96, 160)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, ...]]:
    """Heights and widths of the batches of several images that a looking model was given."""
    found, look = set[tuple[int, ...]](), Looking.__call__

    def watch(self: Looking, images: Any, *rest: Any, **more: Any) -> Any:
        if len(images) > 1:  # not what Ultralytics warms up on
            found.add(tuple(images.shape[2:]))
        return look(self, images, *rest, **more)

    monkeypatch.setattr(Looking, "__call__", watch)
    return found


@pytest.mark.parametrize("pictures", [(72, 128), (128, 72)])
@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb"])
def test_a_model_that_sees_finds_everything_in_pictures_of_any_shape(
    task: str, pictures: tuple[int, int], seen: set[tuple[int, ...]], tmp_path: Path
) -> None:
    data, shelf = make_tiny_data(tmp_path / "data", task, images=8, size=pictures), tmp_path / "shelf"
    first, again = (measure_accuracy(looking(task), data, imgsz=SHAPE, resamples=2, shelf=shelf) for _ in range(2))
    assert seen == {SHAPE} and first == again
    assert first.figures["map50"].value == pytest.approx(0.995, abs=0.006)  # Ultralytics' best possible AP
    assert [path.name.partition("-")[0] for path in shelf.iterdir()] == [f"{task}96x160"]


def test_at_one_side_images_are_padded_as_ever(seen: set[tuple[int, ...]], tmp_path: Path) -> None:
    measure_accuracy(looking("detect"), make_tiny_data(tmp_path, images=8, size=(72, 128)), imgsz=128, resamples=2)
    assert seen == {(96, 160)}, "as yolo val does: the shape of the batch, and half a stride"


def test_a_classifier_takes_squares(tmp_path: Path) -> None:
    data = make_tiny_data(tmp_path, "classify", images=4)
    with pytest.raises(AccuracyError, match="cropped to squares: imgsz=160, not 96x160"):
        measure_accuracy(looking("classify"), data, imgsz=SHAPE)
