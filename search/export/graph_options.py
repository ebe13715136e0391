"""What an exported graph takes and gives: how many images, of what size, and whether suppression is part of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from search.errors import ConfigError

KEYS = ("batch", "dynamic", "nms", "conf", "iou")
MOST_IMAGES = 1024


@dataclass(frozen=True)
class GraphOptions:
    """Options of an export, as `YOLO.export` calls them.

    Attributes:
        batch: images of one inference; with `dynamic` the most that it was traced with.
        dynamic: any number of images, of any size.
        nms: non-maximum suppression is part of the graph, at `conf` and `iou`: it gives objects.
    """

    batch: int = 1
    dynamic: bool = False
    nms: bool = False
    conf: float = 0.25
    iou: float = 0.7

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> GraphOptions:
        """Parse the keys of an export. Raises ConfigError for a value that is none, or thresholds of no suppression."""
        known = {key: given[key] for key in KEYS if given.get(key) is not None}
        for key in ("dynamic", "nms"):
            if not isinstance(known.get(key, False), bool):
                raise ConfigError(f"{known[key]!r} is neither true nor false", where=f"{key}=", expected=f"{key}=True")
        _check_number("batch", known.get("batch", 1), 1, MOST_IMAGES, whole=True)
        for key in ("conf", "iou"):
            _check_number(key, known.get(key, 0.5), 0, 1)
            if key in known and not known.get("nms"):
                raise ConfigError(f"{key} is a threshold of suppression", where=f"{key}=", expected="with nms=True")
        return cls(**known)

    @property
    def is_plain(self) -> bool:
        """True of a graph for one image of one size, which gives raw outputs: what trials are measured by."""
        return not (self.batch > 1 or self.dynamic or self.nms)

    @property
    def label(self) -> str:
        """What tells it from the plain graph, such as `nms batch4`; empty for that one."""
        parts = (("nms", self.nms), ("dynamic", self.dynamic), (f"batch{self.batch}", self.batch > 1))
        return " ".join(part for part, is_so in parts if is_so)

    @property
    def suffix(self) -> str:
        """The same as a part of a file's name."""
        return "".join(f"_{part}" for part in self.label.split())

    @property
    def arguments(self) -> dict[str, Any]:
        """Keys of `YOLO.export`, beside the batch, of which it need not be told."""
        thresholds = {"nms": True, "conf": self.conf, "iou": self.iou} if self.nms else {}
        return {**({"dynamic": True} if self.dynamic else {}), **thresholds}

    def fault_of(self, form: str, takes: frozenset[str], bits: int, task: str | None = None) -> str | None:
        """Return why a format cannot have these options, or None.

        Args:
            takes: which of them the format knows.
            task: of the network, if it is known yet.
        """
        asked = {"batch": self.batch > 1, "dynamic": self.dynamic, "nms": self.nms}
        missing = [key for key, is_asked in asked.items() if is_asked and key not in takes]
        if missing:
            return f"{form} has no {missing[0]} here"
        if self.nms and task == "classify":
            return "a classifier has no boxes to suppress"
        if self.nms and bits == 8:
            return "suppression is not made part of an INT8 file: quantised scores and boxes have one scale there"
        return None


PLAIN = GraphOptions()


def _check_number(key: str, value: Any, least: float, most: float, *, whole: bool = False) -> None:
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        expected = f"{'a whole number from' if whole else 'from'} {least} to {most}"
        raise ConfigError(f"{value!r} is no {key}", where=f"{key}=", expected=expected)
