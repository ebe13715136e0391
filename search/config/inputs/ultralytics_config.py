"""The keys of YOLO.train, read without importing Ultralytics, so that a misspelt one fails before the first trial."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import yaml

from search.errors import near_miss

_TAKEN = (
    "distill_model",
    "model",
    "data",
    "task",
    "mode",
    "project",
    "name",
    "exist_ok",
    "resume",
    "device",
    "seed",
    "imgsz",
)
"""Set by the search itself, from other keys of the study."""
_NO_FILES = "a fine-tune here writes no files of its own; look at its result with yolo val"
_ITSELF = "the pruned network itself is trained"
_PINNED = "figures are measured with fixed settings, so that all trials are comparable"
_OTHER = "it belongs to prediction or export, not to training"
_SCHEDULE = "the fine-tune has a rate of its own for every step (docs/recovery.md); lr0 sets the first"
_REFUSED: Mapping[str, str] = {
    "rect": "each step of the repair is judged on square images, as they are deployed",
    "quantize": "train in float and quantise the result: paretoprune export RUN:REF quantize=8",
    "half": "amp=False trains in float32; paretoprune export RUN:REF quantize=16 writes FP16",
    "compile": "a compiled network cannot be saved",
    "time": "give epochs, or search.hours",
    **dict.fromkeys(("lrf", "cos_lr", "warmup_epochs", "warmup_momentum", "warmup_bias_lr"), _SCHEDULE),
    "cfg": "give its keys one by one",
    **dict.fromkeys(("plots", "save", "save_period", "save_json", "save_txt", "save_conf", "visualize"), _NO_FILES),
    **dict.fromkeys(("verbose", "profile"), _NO_FILES),
    **dict.fromkeys(("pretrained", "cls_remap"), _ITSELF),
    **dict.fromkeys(("val", "split", "conf", "iou", "max_det", "nms", "agnostic_nms", "augment", "classes"), _PINNED),
    **dict.fromkeys(("source", "vid_stride", "stream_buffer", "retina_masks", "embed", "show", "save_frames"), _OTHER),
    **dict.fromkeys(("save_crop", "show_labels", "show_conf", "show_boxes", "line_width", "format"), _OTHER),
    **dict.fromkeys(("optimize", "dynamic", "simplify", "opset", "workspace", "dnn", "tracker"), _OTHER),
}
"""Keys that the repair cannot take, and why."""


def fault_of(key: str, own: tuple[str, ...]) -> str | None:
    """Return the error in `recover.KEY` beside the section's `own` keys; None if YOLO.train accepts it."""
    if key in _TAKEN:
        return f"{key} is set by the search and cannot be a key of recover"
    if key in _REFUSED:
        return f"{key} cannot be a key of recover: {_REFUSED[key]}"
    known = training_keys()
    if not known or key in known:
        return None
    near = near_miss(key, (*own, *known))
    return f"{key} is neither a key of recover ({', '.join(own)}) nor of YOLO.train" + (
        f"; did you mean {near}?" if near else ""
    )


@cache
def training_keys() -> frozenset[str]:
    """Return every key of Ultralytics' settings; empty if they cannot be found."""
    try:
        return frozenset(yaml.safe_load((shipped_settings() / "default.yaml").read_text(encoding="utf-8")))
    except OSError:
        return frozenset()


def shipped_settings() -> Path:
    """Return the folder of the settings and dataset YAMLs shipped with Ultralytics, found without importing it."""
    found = find_spec("ultralytics")
    origin = found.origin if found is not None and found.origin else "."
    return Path(origin).parent / "cfg"
