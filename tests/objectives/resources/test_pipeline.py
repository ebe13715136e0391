"""Pre- and post-processing without a predictor's network: what Ultralytics' own `predict` makes of the same picture."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch

from objectives.resources.pipeline import Pipeline, has_own_end, raw_outputs
from objectives.runtimes.torch_runner import tensors_in
from objectives.ultralytics_door import predictor_class, quiet
from tests.objectives.doubles import network

IMGSZ, CONF, IOU = 64, 1e-4, 0.7
PICTURES = [np.random.default_rng(n).integers(0, 255, (48 + 16 * n, 96, 3), np.uint8) for n in range(2)]


def by_ultralytics(model: Any, picture: Any, imgsz: Any) -> Any:
    """Ultralytics' predictor with its network, after it has predicted the picture; input, raw outputs and result."""
    with quiet():
        settings = {"imgsz": imgsz, "conf": CONF, "iou": IOU, "device": "cpu", "mode": "predict", "rect": False}
        settings |= {"nms": False} if getattr(model, "end2end", False) else {}
        predictor = predictor_class(model)(overrides={**settings, "verbose": False, "save": False})
        predictor.setup_model(model=deepcopy(model), verbose=False)
        predictor(picture)
        image = predictor.preprocess([picture])
        raw = predictor.inference(image)
        predictor.batch = ([""], [picture], None)
        return image, raw, predictor.postprocess(raw, image, [picture])[0]


def tensors_of(result: Any) -> dict[str, torch.Tensor]:
    named = {name: getattr(result, name) for name in ("boxes", "masks", "keypoints", "probs", "obb")}
    return {name: torch.as_tensor(found.data).float() for name, found in named.items() if found is not None}


def outputs_of(model: Any, image: Any, *, exported: bool) -> Any:
    return next(raw_outputs(model, [image], exported=exported))


def agree(model: Any, picture: Any, *, exported: bool, imgsz: Any = IMGSZ) -> Any:
    """Each step on the same input: a random network's boxes lie so close that rounding decides which are kept."""
    image, raw, want = by_ultralytics(model, picture, imgsz)
    end2end = has_own_end(model, exported=exported)
    pipeline = Pipeline(model, imgsz=imgsz, conf=CONF, iou=IOU, end2end=end2end)
    given = pipeline.input_of([picture])
    assert given.dtype == np.float32 and given.flags.c_contiguous and torch.equal(torch.from_numpy(given), image)
    theirs = [part.clone() for part in tensors_in(raw)]
    for ours, part in zip(outputs_of(model, given, exported=exported), theirs, strict=False):
        torch.testing.assert_close(ours, part, rtol=1e-3, atol=1e-3)
    for _ in range(2):  # the outputs stay as they are
        (found,) = pipeline.objects_of(theirs, given, [picture])
        got, expected = tensors_of(found), tensors_of(want)
        assert got.keys() == expected.keys() and got
        assert all(torch.equal(got[name], part) for name, part in expected.items())
    return found


@pytest.mark.parametrize("task", ["detect", "segment", "pose", "obb", "classify"])
def test_objects_are_those_of_predict(task: str) -> None:
    torch.manual_seed(0)
    model = network(task).eval()
    model.task = task
    for picture in PICTURES:
        found = agree(model, picture, exported=True)
        assert task == "classify" or len(found) > 0, "no object: nothing is compared"


def test_an_input_of_two_sides_is_filled_as_predict_fills_it() -> None:
    torch.manual_seed(0)
    model = network("detect").eval()
    model.task = "detect"
    assert len(agree(model, PICTURES[0], exported=True, imgsz=(64, 128))) > 0
    assert Pipeline(model, imgsz=(64, 128), conf=CONF, iou=IOU).input_of(PICTURES[:1]).shape == (1, 3, 64, 128)


def test_an_end_to_end_head_needs_no_suppression_and_a_file_has_none() -> None:
    """Ultralytics exports YOLO26 without that head by default: then its boxes go through suppression."""
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel("yolo26n.yaml", nc=2, verbose=False).eval()
    model.task, model.names = "detect", {0: "dark", 1: "bright"}
    model.end2end = True  # as `nms=False` asks for
    assert has_own_end(model, exported=False) and not has_own_end(model, exported=True)
    image = Pipeline(model, imgsz=IMGSZ, conf=CONF, iou=IOU).input_of(PICTURES[:1])
    assert outputs_of(model, image, exported=False)[0].shape[-1] == 6
    assert outputs_of(model, image, exported=True)[0].shape[1] == 4 + 2
    found = agree(model, PICTURES[0], exported=False)
    assert len(found) > 0


def test_a_batch_is_processed_picture_by_picture() -> None:
    torch.manual_seed(0)
    model = network("detect").eval()
    model.task = "detect"
    pipeline = Pipeline(model, imgsz=IMGSZ, conf=CONF, iou=IOU)
    images = pipeline.input_of(PICTURES)
    assert images.shape[0] == 2
    outputs = outputs_of(model, images, exported=True)
    both = pipeline.objects_of(outputs, images, PICTURES)
    for place, picture in enumerate(PICTURES):
        one = slice(place, place + 1)
        (alone,) = pipeline.objects_of([part[one] for part in outputs], images[one], [picture])
        assert torch.equal(tensors_of(both[place])["boxes"], tensors_of(alone)["boxes"])
