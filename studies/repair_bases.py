"""Train the bases on which the repair of pruned models is chosen and reported, from random weights.

    python studies/repair_bases.py                     # all that are not there yet, one after the other
    python studies/repair_bases.py bccd-yolo11n        # one of them
    python studies/repair_bases.py --device 0          # on a GPU: minutes instead of hours

Each is written beside its data, ``studies/<study>/bases/<base>.pt`` with ``.csv`` and ``.log`` (see
``studies/base_training.py``). On real pictures only the length and the size are chosen: mosaic until ten epochs before
the end, the automatic optimizer and everything else are Ultralytics' defaults. ``digits160-yolov8n`` is the opposite of
the bundled bases of the digits study: little data, hardly any epoch without mosaic. A processor with bfloat16 units
trains in bfloat16, as a GPU does by default (``amp``).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the repository
from studies.base_training import Base, make_base

HERE = Path(__file__).resolve().parent
COMMON: dict[str, Any] = {"batch": 16, "seed": 0, "workers": 0, "cache": "ram", "plots": False}
GPU_WORKERS = 2
MADE_TO_DIFFER: dict[str, Any] = {
    "optimizer": "AdamW",
    "lr0": 0.002,
    "mosaic": 0.5,
    "scale": 0.5,
    "close_mosaic": 5,
    "fliplr": 0.0,  # a mirrored digit is another digit, or none
    "erasing": 0.0,
}


@dataclass(frozen=True)
class RepairBase:
    """A base to train: the folder of its data, Ultralytics' name of the network, epochs, input size in px."""

    study: str
    model: str
    epochs: int
    imgsz: int = 320
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the file is called."""
        return f"{self.study}-{self.model}"

    @property
    def checkpoint(self) -> Path:
        """Where the trained base lies."""
        return HERE / self.study / "bases" / f"{self.name}.pt"

    @property
    def data(self) -> Path:
        """What Ultralytics is given."""
        folder = HERE / self.study / "data"
        return folder if self.model.endswith("-cls") else folder / "data.yaml"

    def args(self, device: str) -> dict[str, Any]:
        """Arguments of the training."""
        place = {"device": device} if device == "cpu" else {"device": device, "workers": GPU_WORKERS}
        return {**COMMON, **place, "epochs": self.epochs, "imgsz": self.imgsz, **self.settings}


BASES = (
    RepairBase("bccd", "yolov8n", 70),
    RepairBase("bccd", "yolo11n", 70),
    RepairBase("bccd", "yolo26n", 70),
    RepairBase("bccd", "yolov8s", 70),
    RepairBase("pcb", "yolov8n", 50),
    RepairBase("pcb", "yolov8s", 50, settings={"fraction": 0.5}),
    RepairBase("mouse_pose", "yolov8n-pose", 100),
    RepairBase("solar_cells", "yolov8n-cls", 30, imgsz=128),
    RepairBase("digits160", "yolov8n", 40, imgsz=160, settings=MADE_TO_DIFFER),
)


def main() -> None:
    """Train those that are asked for and not there."""
    parser = argparse.ArgumentParser(description="Train the bases on which the repair is chosen and reported.")
    names = [base.name for base in BASES]
    parser.add_argument("bases", nargs="*", metavar="BASE", help=", ".join(names))
    parser.add_argument("--device", default="cpu", help="cpu, or the number of a GPU")
    parser.add_argument("--work", type=Path, default=Path("runs") / "bases", help="Ultralytics' own folder")
    asked = parser.parse_args()
    unknown = set(asked.bases) - set(names)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    for base in BASES:
        if (asked.bases and base.name not in asked.bases) or base.checkpoint.exists():
            continue
        base.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        trained = Base(base.model, base.name, base.checkpoint.parent, base.args(asked.device), bfloat16=True)
        place = "" if asked.device == "cpu" else f" --device {asked.device}"
        command = f"python studies/repair_bases.py {base.name}{place}"
        make_base(trained, base.data, asked.work.resolve() / base.name, command)


if __name__ == "__main__":
    main()
