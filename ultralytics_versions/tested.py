"""The releases of Ultralytics that work, those that are tested, and what older ones lack. Imports none of them."""

from __future__ import annotations

import re
from importlib import metadata
from typing import NamedTuple

OLDEST = "8.3.168"
"""Before, validators matched boxes in pixels of the original image, so that sizes of objects were others."""
TESTED = ("8.3.168", "8.4.0", "8.4.190")
"""By `make matrix`: the oldest, one between, the newest."""
BEYOND = "8.5"
"""The first release that may differ in anything."""

_TWO_IMAGES = (
    "cannot train segmentation on a batch of two images (its loss takes them for a pair of outputs), which a repair "
    'has: pip install "ultralytics>=8.4.20,<8.5", or 8.3'
)


class Part(NamedTuple):
    """Something that came with a release; before it, `without` is what happens instead."""

    since: str
    what: str
    without: str


LEVELS = Part("8.4.20", "detection heads whose levels can be removed", "space.levels finds none")
"""Before 8.4.0 heads answer in another form, and in the first ones after it the loss needs two levels."""
DISTILLATION = Part("8.4.77", "distillation", "a fine-tune has no teacher, whatever recover.distill says")
RECTANGLES = Part("8.4.190", "input sizes of two sides", "networks are pruned, trained and validated on squares")
"""Or a little earlier: 8.4.175 still reckons with one side where it loads images."""
PARTS = (
    Part("8.4.0", "YOLO26", "its models cannot be loaded"),
    LEVELS,
    DISTILLATION,
    RECTANGLES,
)


def installed() -> str:
    """Return the installed release. Raises PackageNotFoundError if there is none."""
    return metadata.version("ultralytics")


def warning(version: str) -> str | None:
    """Return what to tell the user of a release that is older or newer than what is tested; None of the others."""
    if _order(OLDEST) <= _order(version) < _order(BEYOND):
        return None
    what = "older than anything" if _order(version) < _order(OLDEST) else "newer than anything"
    return (
        f"warning: Ultralytics {version} is {what} that ParetoPrune is tested with ({', '.join(TESTED)}). It may work; "
        f'if it does not: pip install "ultralytics>={OLDEST},<{BEYOND}"'
    )


def lacking(version: str) -> tuple[str, ...]:
    """Return a line for each thing that came after `version`, or that is broken in it."""
    gaps = tuple(line for part in PARTS if (line := _gap(part, version)) is not None)
    return gaps if trains_masks(version) else (*gaps, f"Ultralytics {version} {_TWO_IMAGES}")


def trains_masks(version: str) -> bool:
    """Tell whether a release can train segmentation on every batch; an early 8.4 cannot on one of two images."""
    return not (8, 4) <= _order(version) < (8, 4, 20)


def levels_can_go(version: str) -> bool:
    """Tell whether the heads of a release work with fewer levels, down to one."""
    return _gap(LEVELS, version) is None


def without_teacher(version: str) -> str | None:
    """Return a line if `version` cannot distil."""
    return _gap(DISTILLATION, version)


def without_rectangles(version: str) -> str | None:
    """Return a line if `version` cannot load images into inputs of two sides."""
    return _gap(RECTANGLES, version)


def _gap(part: Part, version: str) -> str | None:
    if _order(version) >= _order(part.since):
        return None
    return f"Ultralytics {version} has no {part.what} (since {part.since}): {part.without}"


def _order(version: str) -> tuple[int, ...]:
    """Return a release as numbers that compare: of 8.4.0rc1 and 8.4.0+cpu the first three."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
