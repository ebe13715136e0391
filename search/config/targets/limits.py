"""What a device can hold: weights, and the networks that its exporter takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import floor
from typing import Any, Literal

from pydantic import Field

from objectives.image_size import Size, area
from search.config.sections import Real, Section, Whole, image_size

Family = Literal["yolov8", "yolo11"]
FIGURE = "weights_mb"
"""The figure that a ceiling bounds; see `objectives.objective`."""
_PER_SQUARE = 21 / 1024
"""Places of an output at strides 8, 16 and 32, for each pixel of the input."""


def family_of_blocks(blocks: Collection[str]) -> Family:
    """Return the family for which Ultralytics' IMX export takes a network: YOLO11 where it has a C2PSA block."""
    return "yolo11" if "C2PSA" in blocks else "yolov8"


class Network(Section):
    """Limits of one family of networks in one task.

    `weights_mb`: most of the weights in INT8, 10^6 bytes, with the constants; null: no limit. `modules`: numbers of
    modules, after fusing, that the exporter takes; empty: any. `constants`: bytes for each place of the output by which
    boxes are decoded, which the compiler counts as weights.
    """

    weights_mb: Real | None = Field(default=None, gt=0, le=1e6)
    modules: tuple[Whole, ...] = ()
    constants: Whole = Field(default=0, ge=0, le=1000)

    def constants_mb(self, size: Size) -> float:
        """Return 10^6 bytes of constants at an input size, in px."""
        return self.constants * round(area(size) * _PER_SQUARE) / 1e6

    def kernels_mb(self, size: Size) -> float | None:
        """Return what is left for the kernels, rounded down to ten bytes: a study writes six digits of a limit."""
        if self.weights_mb is None:
            return None
        return floor((self.weights_mb - self.constants_mb(size)) * 1e5 + 1e-6) / 1e5


class Limits(Section):
    """A ceiling for every network, or one for each family and task; with the latter others are not taken."""

    weights_mb: Real | None = Field(default=None, gt=0, le=1e6)
    networks: dict[Family, dict[str, Network]] = Field(default_factory=dict)

    def network(self, family: Family, task: str) -> Network | None:
        """Return the limits of a network; None where the device does not take it."""
        if not self.networks:
            return Network(weights_mb=self.weights_mb)
        return self.networks.get(family, {}).get(task)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that the device takes; empty: any."""
        return tuple(dict.fromkeys(task for tasks in self.networks.values() for task in tasks))


def largest_size(study: Mapping[str, Any], usual: int) -> Size:
    """Return the input size of most pixels that an unchecked study names; what is no size is left to its checks."""
    space = study.get("space")
    searched = space.get("imgsz") if isinstance(space, Mapping) else None
    searched = [word.strip() for word in searched.split(",")] if isinstance(searched, str) else searched
    named = [study.get("imgsz") or usual, *(searched if isinstance(searched, list | tuple) else [searched])]
    return max((size for size in map(_size_or_none, named) if size is not None), key=area, default=usual)


def _size_or_none(value: object) -> Size | None:
    try:
        return image_size(value)
    except ValueError:
        return None
