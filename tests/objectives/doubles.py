"""Networks of every task whose forward is replaced by one that looks: it finds the rectangle of `tiny_data` exactly.

Where `errs` says so by the rectangle's place, it errs: in the class, or only in the mask or the keypoints.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

from tests.tiny_data import CLASSES

Errs = Callable[[int], bool]
SUFFIX = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}
CORNERS = 4


def never(place: int) -> bool:
    """No error."""
    return False


def sometimes(place: int) -> bool:
    """An error at every third place."""
    return place % 3 == 0


class Looking:
    """The forward of a network of one task, (B, 3, H, W) in, what its head gives in evaluation out."""

    def __init__(self, task: str, wrong_class: Errs, wrong_shape: Errs) -> None:
        self.task, self.wrong_class, self.wrong_shape = task, wrong_class, wrong_shape

    def __call__(self, images: torch.Tensor, *_: Any, **__: Any) -> Any:
        found = [(*self._find(image), float(image.mean()) * 1000 % 1) for image in images]
        if self.task == "classify":
            return torch.stack([torch.nn.functional.one_hot(torch.tensor(kind), 2).float() for kind, *_ in found])
        rows = [self._row(*one) for one in found]
        output = torch.zeros(len(images), len(rows[0]), 8)
        output[:, :, 0] = torch.stack(rows)
        if self.task != "segment":
            return output
        height, width = images.shape[2] // 4, images.shape[3] // 4
        proto = torch.full((len(images), 32, height, width), -1.0)
        proto[:, 0] = 1.0
        proto[:, 1, :, : width // 2] = 1.0  # a mask that ends in the middle of the image
        return output, proto

    def _find(self, image: torch.Tensor) -> tuple[int, torch.Tensor, int]:
        """Class, box (x0, y0, x1, y1) and place of the rectangle, which is dark or bright on grey noise."""
        grey = image.mean(0)
        dark, bright = grey < 0.1, grey > 0.8
        kind = int(bright.sum() > dark.sum())
        ys, xs = torch.nonzero(bright if kind else dark, as_tuple=True)
        if not len(xs):  # Ultralytics warms up on what it finds in memory
            return 0, torch.tensor([0.0, 0.0, 1.0, 1.0]), 0
        box = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()
        place = int(box[0] + box[1])
        return (1 - kind if self.wrong_class(place) else kind), box, place

    def _row(self, kind: int, box: torch.Tensor, place: int, chance: float) -> torch.Tensor:
        """Centre, sides, scores of the classes, and what the task has beside; no two images have equal scores."""
        wrong = self.wrong_shape(place)
        head = torch.cat([(box[:2] + box[2:]) / 2, box[2:] - box[:2], torch.full((2,), 0.1 + 0.1 * chance)])
        head[4 + kind] = 0.5 + 0.4 * chance
        if self.task == "segment":
            return torch.cat([head, torch.eye(32)[int(wrong)]])
        if self.task == "obb":
            return torch.cat([head, torch.tensor([0.6 if wrong else 0.0])])
        if self.task == "pose":
            corners = torch.stack([box[[0, 1]], box[[2, 1]], box[[2, 3]], box[[0, 3]]]) + 9.0 * wrong
            return torch.cat([head, torch.cat([corners, torch.ones(CORNERS, 1)], 1).ravel()])
        return head


def looking(task: str, wrong_class: Errs = never, wrong_shape: Errs = never) -> Any:
    """An Ultralytics network of the task (random weights, yolov8n) that looks instead of computing."""
    model = network(task)
    model.names, model.task = dict(enumerate(CLASSES)), task
    model.forward = Looking(task, wrong_class, wrong_shape)
    return model.eval()


def network(task: str) -> Any:
    from ultralytics.nn import tasks

    kinds = {
        "detect": tasks.DetectionModel,
        "segment": tasks.SegmentationModel,
        "obb": tasks.OBBModel,
        "classify": tasks.ClassificationModel,
    }
    name = f"yolov8n{SUFFIX[task]}.yaml"
    if task == "pose":
        return tasks.PoseModel(name, nc=2, data_kpt_shape=(CORNERS, 3), verbose=False)
    return kinds[task](name, nc=2, verbose=False)


def by_ultralytics(model: Any, data: Any, imgsz: int, project: Any) -> Any:
    """What `YOLO.val` says about the same network."""
    from ultralytics import YOLO

    yolo = YOLO(f"yolov8n{SUFFIX[model.task]}.yaml", verbose=False)
    yolo.model = deepcopy(model)
    return yolo.val(
        data=str(data), imgsz=imgsz, batch=4, device="cpu", plots=False, verbose=False, project=str(project)
    )
