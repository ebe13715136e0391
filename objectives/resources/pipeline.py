"""Ultralytics' own steps around a network: a picture becomes an input, and raw outputs become objects.

They are those of its predictor of the task, on the CPU: letterbox and normalisation before; afterwards non-maximum
suppression (an end-to-end head and RT-DETR have a threshold instead, a classifier has nothing), and the objects in
pixels of the picture, of a segmenter with their masks. See `ultralytics.engine.predictor` and
`ultralytics.utils.nms.non_max_suppression`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from objectives.image_size import Size, sides
from objectives.runtimes.runner import Image
from objectives.runtimes.torch_runner import input_channels, tensors_in
from objectives.ultralytics_door import is_ultralytics, predictor_class, quiet, stride_of, twin_of

Picture = npt.NDArray[np.uint8]
"""A decoded picture, (H, W, channels), BGR if there are three."""
RawOutputs = tuple[torch.Tensor, ...]
"""Outputs of a network for one picture, (1, ...) each, the first one with what objects are made of."""


class Pipeline:
    """Pre- and post-processing of one network.

    Args:
        model: says the task, classes, channels and stride; it is not run.
        imgsz: input size in pixels.
        conf, iou: thresholds of non-maximum suppression, 0 to 1.
        end2end: the outputs need no suppression.
    """

    def __init__(self, model: Any, *, imgsz: Size, conf: float, iou: float, end2end: bool = False) -> None:
        channels = input_channels(model)
        given = {"imgsz": list(sides(imgsz)), "conf": conf, "iou": iou}
        settings = {**given, "device": "cpu", "mode": "predict", "rect": False}
        with quiet():
            self._predictor: Any = predictor_class(model)(overrides={**settings, "verbose": False, "save": False})
            self._predictor.device = torch.device("cpu")
            self._predictor.model = SimpleNamespace(
                names=getattr(model, "names", None) or {0: "0"},
                format="onnx",
                fp16=False,
                dynamic=False,
                device=torch.device("cpu"),
                stride=stride_of(model),
                channels=channels,
                end2end=end2end,
                model=None,
                kpt_shape=next((m.kpt_shape for m in model.modules() if hasattr(m, "kpt_shape")), None),
            )
            self._predictor.setup_source(np.zeros((*sides(imgsz), channels), np.uint8))

    def input_of(self, pictures: Sequence[Picture]) -> Image:
        """Return the input batch of decoded pictures, (B, channels, height, width), float32."""
        with torch.inference_mode():
            found: Image = self._predictor.preprocess(list(pictures)).numpy()
        return found

    def objects_of(self, outputs: Sequence[torch.Tensor], images: Image, pictures: Sequence[Picture]) -> list[Any]:
        """Return Ultralytics' results of a batch: objects in pixels of their pictures. The outputs are not changed."""
        self._predictor.batch = ([""] * len(pictures), list(pictures), None)
        given = list(outputs) if len(outputs) > 1 else outputs[0]
        with torch.inference_mode():
            found: list[Any] = self._predictor.postprocess(given, torch.from_numpy(images), list(pictures))
        return found


def raw_outputs(model: Any, images: Iterable[Image], *, exported: bool) -> Iterator[RawOutputs]:
    """Yield the outputs of a network, fused as it is deployed, for each input batch, computed by PyTorch.

    Args:
        exported: in the form of an exported file, whose end-to-end head Ultralytics leaves out by default.
    """
    twin = twin_of(model).eval().float().cpu()
    if exported and hasattr(twin, "end2end"):
        twin.end2end = False
    if is_ultralytics(model):
        with quiet():
            twin = twin.fuse(verbose=False)
    for module in twin.modules() if exported else ():
        if hasattr(module, "export"):
            module.export, module.format, module.dynamic = True, "onnx", False
    for image in images:
        with torch.inference_mode():
            yield tuple(part.clone() for part in tensors_in(twin(torch.from_numpy(image))))


def has_own_end(model: Any, *, exported: bool) -> bool:
    """Return whether the outputs of `raw_outputs` are those of an end-to-end head.

    Ultralytics 8.4.190 uses that of YOLOv10 and YOLO26 where it is asked to (`nms=False`), or where fusing has left no
    other.
    """
    if not getattr(model, "end2end", False):
        return False
    return not exported or model.model[-1].cv2 is None
