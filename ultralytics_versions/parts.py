"""Parts of Ultralytics that some releases lack, or have under another name. `Any`: none has all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch.onnx
from torch import nn
from ultralytics import utils
from ultralytics.utils import DEFAULT_CFG_DICT

_NONE = object()


class Absent(nn.Module):
    """Stands for a class that this release lacks: nothing is an instance of it."""


def part(module: str, *names: str, otherwise: Any = _NONE) -> Any:
    """Return the first of `names` in a module of Ultralytics.

    Raises ImportError if there is none, unless `otherwise` is given.
    """
    try:
        place = import_module(f"ultralytics.{module}")
    except ModuleNotFoundError as error:
        if otherwise is _NONE or not str(error.name).startswith("ultralytics."):
            raise
        return otherwise
    for name in names:
        if hasattr(place, name):
            return getattr(place, name)
    if otherwise is _NONE:
        raise ImportError(f"ultralytics.{module} has none of {', '.join(names)}")
    return otherwise


def _whole_split(fraction: float, split: str) -> float:
    """Return the share of a split that is used; only training images were ever less than all."""
    return fraction if split == "train" else 1.0


DistillationModel: Any = part("nn.distill_model", "DistillationModel", otherwise=Absent)
FeatureHook: Any = part("nn.distill_model", "FeatureHook", otherwise=Absent)
E2ELoss: Any = part("utils.loss", "E2ELoss", otherwise=Absent)
get_split_fraction: Any = part("data.utils", "get_split_fraction", otherwise=_whole_split)
unwrap_model: Any = part("utils.torch_utils", "unwrap_model", "de_parallel")
can_distill = DistillationModel is not Absent


def accepted(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """Return the options that this release's function takes by name."""
    known = signature(function).parameters
    return {name: value for name, value in options.items() if name in known}


def read_data(reader: Callable[..., Any], data: str | Path, split: str) -> dict[str, Any]:
    """Call a `check_det_dataset`, which older releases do not tell the split, without downloads.

    Raises FileNotFoundError: the data YAML has no such split, or its images are not there; and what the reader does.
    """
    asked = accepted(reader, split=split)
    found: dict[str, Any] = reader(str(data), autodownload=False, **asked)
    if split and not asked:
        places = found.get(split)
        if not places:
            raise FileNotFoundError(f"{data} '{split}:' images not found")
        for place in places if isinstance(places, list) else [places]:
            if not Path(place).exists():
                raise FileNotFoundError(f"Dataset '{data}' images not found, missing path '{place}'")
    return found


def export_precision(bits: int) -> dict[str, Any]:
    """Return the setting of YOLO.export for 8 or 16 bits, which has had two names."""
    return {"quantize": bits} if "quantize" in DEFAULT_CFG_DICT else {8: {"int8": True}, 16: {"half": True}}[bits]


@contextmanager
def without_bars() -> Iterator[None]:
    """Suppress the progress bars of releases whose bars do not follow the level of their log."""
    switch: Any = utils
    before, switch.VERBOSE = switch.VERBOSE, False
    try:
        yield
    finally:
        switch.VERBOSE = before


@contextmanager
def traced_onnx() -> Iterator[None]:
    """Let PyTorch export ONNX files by tracing while inside, unless it is told how.

    Early releases (8.3.212 is one) do not say it, and mean what was PyTorch's default until 2.8.
    """
    before = torch.onnx.export

    def export(*arguments: Any, dynamo: bool = False, **options: Any) -> Any:
        return before(*arguments, dynamo=dynamo, **options)

    torch.onnx.export = export
    try:
        yield
    finally:
        torch.onnx.export = before


def known_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that this release has, as it takes them; it would refuse the others.

    What is a number now was a switch before (`multi_scale`).
    """
    known = {key: value for key, value in settings.items() if key in DEFAULT_CFG_DICT}
    switches = {key for key in known if isinstance(DEFAULT_CFG_DICT[key], bool) and isinstance(known[key], float)}
    return {**known, **{key: bool(known[key]) for key in switches}}
