"""Run Ultralytics' validators in this process and keep their per-image statistics.

Settings are pinned, so that base, trials and exported files are comparable whatever the defaults become: float32,
rectangular batches as in `yolo val` (Ultralytics turns them off by itself for files of fixed shape; at an input size of
two sides every image is letterboxed to exactly these, as at deployment), one metric (COCO
data would switch to pycocotools for the unpruned figure only), Ultralytics' confidence and IoU thresholds, no plots, no
files left behind.

A validator drops its per-image statistics at the end. Here a subclass keeps them: true positives by box, mask or
keypoints, and matches of small objects. The figures themselves stay Ultralytics'.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import nn

from objectives.accuracy.batch_cache import BatchCache, batch_key
from objectives.accuracy.small_objects import SmallMatches, match_small
from objectives.errors import AccuracyError
from objectives.image_size import Size

VALIDATORS: Mapping[str, str] = MappingProxyType(
    {
        "detect": "ultralytics.models.yolo.detect:DetectionValidator",
        "segment": "ultralytics.models.yolo.segment:SegmentationValidator",
        "pose": "ultralytics.models.yolo.pose:PoseValidator",
        "obb": "ultralytics.models.yolo.obb:OBBValidator",
        "classify": "ultralytics.models.yolo.classify:ClassificationValidator",
    }
)
"""Task -> `module:Class`."""
OF_FAMILIES: Mapping[str, str] = MappingProxyType({"rtdetr": "ultralytics.models.rtdetr.val:RTDETRValidator"})
"""The same of models whose boxes are read in another way, by `family_of`."""


@dataclass
class ValidationStats:
    """Per-image statistics of a validation.

    Attributes:
        stats: Ultralytics' per-image arrays: tp, tp_m (masks) or tp_p (keypoints), conf, pred_cls, target_cls.
        small: matches of small objects for the same names of true positives.
        predictions: classify only: the best classes (n, 5) of every image, and `targets` its own.
    """

    stats: dict[str, list[Any]] = field(default_factory=dict)
    small: dict[str, list[SmallMatches]] = field(default_factory=dict)
    predictions: Any = None
    targets: Any = None


def validate(
    task: str,
    subject: nn.Module | str,
    arguments: Mapping[str, Any],
    folder: Path,
    shelf: BatchCache | None,
    family: str = "yolo",
    beat: Callable[[], None] = lambda: None,
) -> tuple[Any, ValidationStats]:
    """Run the validator of the task, or of the model's family, over one split; `folder` is for its temporary files.

    Args:
        beat: called before every batch.

    Returns the finished validator and its per-image statistics. Raises `AccuracyError` with the cause.
    """
    module, name = OF_FAMILIES.get(family, VALIDATORS[task]).split(":")
    seen = ValidationStats()
    try:
        kind = _watched(getattr(importlib.import_module(module), name), seen, shelf)
        validator = kind(args=dict(arguments), save_dir=folder)
        if isinstance(arguments["imgsz"], list):  # the constructor takes the larger side, its data set takes both
            validator.args.imgsz = arguments["imgsz"]
        validator.add_callback("on_val_batch_start", lambda validator: beat())
        validator(model=subject if hasattr(kind, "get_model") else copy.deepcopy(subject))  # older ones fuse it
    except Exception as fault:
        raise AccuracyError(
            f"Ultralytics' validator failed on split {arguments['split']!r} of {arguments['data']}: {_short(fault)}"
        ) from fault
    return validator, seen


def _short(fault: Exception) -> str:
    """Return a message without the rest of a list: Ultralytics gives a line for every image that it cannot use."""
    lines = str(fault).strip().splitlines() or [type(fault).__name__]
    shown = " ".join(line.strip() for line in lines[:2])
    # Whatever Pillow does not know is tried as HEIF, whose reader is a package of its own.
    shown = shown.replace("No module named 'pi_heif'", "no image that can be read")
    return shown if len(lines) <= 2 else f"{shown} (and {len(lines) - 2} lines more)"


def arguments(
    task: str,
    data: str | Path,
    *,
    imgsz: Size,
    device: str,
    batch: int,
    split: str,
    single_cls: bool,
    rect: bool,
    conf: float | None = None,
) -> Mapping[str, Any]:
    """Return the pinned settings of a validation; see the module's docstring. `conf` None: Ultralytics' own."""
    from ultralytics_versions.parts import known_settings

    settings = {
        "conf": conf,
        "task": task,
        "mode": "val",
        "data": str(data),
        "imgsz": imgsz if isinstance(imgsz, int) else list(imgsz),
        "device": device,
        "batch": batch,
        "split": split,
        "single_cls": single_cls,
        "quantize": None,  # float32 for modules; a file keeps its own precision
        "rect": rect and isinstance(imgsz, int),
        "val": False,  # with True, COCO data switch to pycocotools
        "plots": False,
        "save_json": False,
        "save_txt": False,
        "verbose": False,
    }
    return known_settings(settings)


def _watched(kind: type[Any], seen: ValidationStats, shelf: BatchCache | None) -> type[Any]:
    """Subclass a validator to fill `seen` and to take its batches from the cache."""

    class Watched(kind):  # type: ignore[misc]  # which class it is becomes known when Ultralytics is imported
        def get_dataloader(self, dataset_path: Any, batch_size: int) -> Any:
            def fresh() -> Any:
                # A classifier's loader shuffles by PyTorch's seed; models are compared image by image, by their place.
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(0)
                    return super(Watched, self).get_dataloader(dataset_path, batch_size)

            if shelf is None:
                return fresh()
            places = dataset_path if isinstance(dataset_path, list) else [dataset_path]
            return shelf.loader(batch_key(places, _of_batches(self, batch_size)), fresh)

        def match_predictions(self, pred_classes: Any, true_classes: Any, iou: Any, use_scipy: bool = False) -> Any:
            same = true_classes[:, None] == pred_classes
            self.overlaps.append((iou * same).cpu().numpy())
            return super().match_predictions(pred_classes, true_classes, iou, use_scipy)

        def _process_batch(self, preds: Any, batch: Any) -> Any:
            self.overlaps: list[Any] = []
            found = super()._process_batch(preds, batch)
            names = [name for name in ("tp", "tp_m", "tp_p") if name in found]
            for name, matches in zip(names, _small(self, preds, batch, len(names)), strict=True):
                seen.small.setdefault(name, []).append(matches)
            return found

        def get_stats(self) -> Any:
            if hasattr(self.metrics, "stats"):
                seen.stats = {key: list(images) for key, images in self.metrics.stats.items()}
            else:
                seen.predictions, seen.targets = (_joined(parts) for parts in (self.pred, self.targets))
            return super().get_stats()

    return Watched


def _of_batches(validator: Any, batch_size: int) -> dict[str, Any]:
    """Return everything except the files that a validator's batches depend on."""
    import ultralytics

    args = validator.args
    asked = {key: getattr(args, key) for key in ("task", "imgsz", "rect", "single_cls", "classes", "split")}
    own = validator.names or validator.data["names"]  # older releases set the network's only later
    names = list(own.values()) if args.task == "classify" else validator.data.get("kpt_shape")
    kind = type(validator).__mro__[1].__name__  # of which `Watched` is a subclass
    about = {"batch": batch_size, "kind": kind, "stride": int(np.max(validator.stride)), "names": names}
    return {**asked, **about, "version": ultralytics.__version__}


def _joined(parts: list[Any]) -> Any:
    return np.concatenate([part.numpy() for part in parts]) if parts else np.zeros(0)


def _small(validator: Any, preds: Any, batch: Any, count: int) -> list[SmallMatches]:
    """Match small objects in one image, for each kind of true positive; see `small_objects`."""
    gain = _area_gain(batch["ratio_pad"])
    label_areas = _label_areas(batch) / gain
    box_areas = _box_areas(preds["bboxes"]) / gain
    areas = [box_areas, _mask_areas(preds["masks"], batch["imgsz"]) / gain if "masks" in preds else box_areas]
    empty = np.zeros((len(label_areas), len(box_areas)))
    overlaps = validator.overlaps or [empty] * count  # without detections or labels nothing is matched
    thresholds = validator.iouv.cpu().numpy()
    return [match_small(overlaps[i], thresholds, areas[i], label_areas) for i in range(count)]


def _area_gain(ratio_pad: Any) -> float:
    """Return by how much an image's area grew: of ((height, width), padding), or of (height, width) without padding."""
    sides = ratio_pad if np.isscalar(ratio_pad[0]) else (ratio_pad[0][0], ratio_pad[0][0])
    return float(sides[0] * sides[1])


def _label_areas(batch: Any) -> Any:
    if "masks" in batch and len(batch["cls"]):
        return _mask_areas(batch["masks"], batch["imgsz"])
    return _box_areas(batch["bboxes"])


def _box_areas(boxes: Any) -> Any:
    """Return areas (n,) of boxes: (n, 4) corners, or (n, 5) centre, sides and angle, in px."""
    sides = boxes[:, 2:4] if boxes.shape[1] == 5 else boxes[:, 2:4] - boxes[:, :2]
    return sides.prod(1).double().cpu().numpy()


def _mask_areas(masks: Any, imgsz: Any) -> Any:
    """Return areas (n,), in px of the input, of masks (n, h, w) of 0 and 1 that are coarser than the input (H, W)."""
    cell = (imgsz[0] / masks.shape[1]) * (imgsz[1] / masks.shape[2])
    return masks.flatten(1).double().sum(1).cpu().numpy() * cell
