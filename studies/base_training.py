"""How the bases of the bundled studies come about: plain Ultralytics, from random weights.

Beside a study's script three files are written: ``<base>.pt`` (stripped, half precision), ``<base>.csv``
(Ultralytics' table, a row per epoch) and ``<base>.log`` (versions, arguments, data, seconds, and what the written
checkpoint scores once it is loaded again).
"""

from __future__ import annotations

import os

os.environ.setdefault("YOLO_AUTOINSTALL", "false")  # read by Ultralytics at import
os.environ.setdefault("YOLO_OFFLINE", "true")

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import ultralytics
from ultralytics.engine import trainer
from ultralytics.models import YOLO
from ultralytics.utils.torch_utils import strip_optimizer

from studies.made_folder import read_marker

PATH_ARGS = ("data", "project", "save_dir", "name", "model", "cfg", "pretrained", "resume")
MACHINE_KEYS = ("git", "date")


@dataclass(frozen=True)
class Base:
    """A base to train: Ultralytics' name of the network, the file's name, its folder, the training arguments.

    ``bfloat16`` trains in mixed precision where the processor has units for it.
    """

    model: str
    name: str
    folder: Path
    args: dict[str, Any]
    bfloat16: bool = False

    @property
    def checkpoint(self) -> Path:
        """The file that is committed."""
        return self.folder / f"{self.name}.pt"


def train(base: Base, data: Path, work: Path) -> Path:
    """Train a base from random weights and return Ultralytics' run folder, made below ``work``."""
    run = YOLO(f"{base.model}.yaml")
    mixed = in_bfloat16(base)
    if mixed:
        run.add_callback("on_pretrain_routine_end", channels_last)
    with _autocast(lambda *_, **__: torch.autocast("cpu", torch.bfloat16)) if mixed else nullcontext():
        run.train(data=str(data), project=str(work), name=base.model, exist_ok=True, **base.args)
    return work / base.model


@contextmanager
def _autocast(context: Callable[..., Any]) -> Iterator[None]:
    """Let Ultralytics' trainer compute in ``context``: its own knows bfloat16 on a GPU only."""
    before = trainer.autocast
    trainer.autocast = context
    try:
        yield
    finally:
        trainer.autocast = before


def in_bfloat16(base: Base) -> bool:
    """Tell whether a processor trains the base, in bfloat16 (on a GPU Ultralytics' own mixed precision does)."""
    return base.bfloat16 and base.args["device"] == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def channels_last(run: Any) -> None:
    """Order weights as the processor's bfloat16 units read them."""
    run.model.to(memory_format=torch.channels_last)


def without_paths(args: dict[str, Any]) -> dict[str, Any]:
    """Return training arguments without those that name a place on this machine."""
    return {key: value for key, value in args.items() if key not in PATH_ARGS}


def slim(source: Path, target: Path) -> None:
    """Write a trainer's checkpoint for the repository: no optimizer, half precision, no local path."""
    stripped: dict[str, Any] = strip_optimizer(source, s=str(target))
    kept = {key: value for key, value in stripped.items() if key not in MACHINE_KEYS}
    kept["train_args"] = without_paths(kept["train_args"])
    if hasattr(kept["model"], "args"):  # a classifier has none
        kept["model"].args = without_paths(kept["model"].args)
    torch.save(kept, target)


def load(checkpoint: Path) -> torch.nn.Module:
    """Return the network in a checkpoint, loaded as users load it."""
    net = YOLO(checkpoint).model
    assert isinstance(net, torch.nn.Module)
    return net


def score(base: Base, data: Path) -> dict[str, float]:
    """Validate the written checkpoint on the val split: mAP50-95 and mAP50, or top-1, of all it predicts, 0 to 1."""
    with tempfile.TemporaryDirectory() as room:
        place = {"data": str(data), "project": room, "device": "cpu", "workers": 0}
        found = YOLO(base.checkpoint).val(imgsz=base.args["imgsz"], plots=False, verbose=False, **place)
    if hasattr(found, "top1"):
        return {"top1": round(float(found.top1), 4)}
    figures = {"map50_95": float(found.box.map), "map50": float(found.box.map50)}
    if hasattr(found, "seg"):
        figures |= {"mask_map50_95": float(found.seg.map), "mask_map50": float(found.seg.map50)}
    if hasattr(found, "pose"):
        figures |= {"pose_map50_95": float(found.pose.map), "pose_map50": float(found.pose.map50)}
    return {name: round(value, 4) for name, value in figures.items()}


def record(base: Base, data: Path, command: str, seconds: float) -> str:
    """Describe how a base came about, as JSON lines; the score is that of the file that was written."""
    facts = {
        "model": base.model,
        "command": command,
        "args": base.args,
        "bfloat16": in_bfloat16(base),
        "data": read_marker(data if data.is_dir() else data.parent)["content"],
        "train_seconds": round(seconds),
        "size_bytes": base.checkpoint.stat().st_size,
        "params": sum(weight.numel() for weight in load(base.checkpoint).parameters()),
        "val": score(base, data),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ultralytics": ultralytics.__version__,
        "threads": torch.get_num_threads(),
        "gpu": None if base.args["device"] == "cpu" else torch.cuda.get_device_name(int(base.args["device"])),
    }
    return json.dumps(facts, indent=2) + "\n"


def make_base(base: Base, data: Path, work: Path, command: str) -> None:
    """Train one base and write its checkpoint, epoch table and log into its folder."""
    start = time.monotonic()
    run = train(base, data, work)
    seconds = time.monotonic() - start
    slim(run / "weights" / "best.pt", base.checkpoint)
    shutil.copyfile(run / "results.csv", base.checkpoint.with_suffix(".csv"))
    base.checkpoint.with_suffix(".log").write_text(record(base, data, command, seconds))
