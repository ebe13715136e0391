"""Limits of a named budget: numbers, shares of the base (`latency_ms: 60%`), frames per second (`fps: 30`)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from objectives.choice import Bound

_FOLDER = r"[A-Za-z0-9][A-Za-z0-9._-]"
FOLDER_NAME = re.compile(_FOLDER + "{0,99}")
"""Of a run, and of a budget."""
PICK_NAME = re.compile(_FOLDER + "{0,149}")
"""Of a pick's folder: a budget, `edge`, or one by the latencies of a device (40 letters at most): `edge-on-pi5`."""
_SIGN = re.compile(r"\s*(<=|>=)?\s*(?P<limit>.*?)\s*")
_EXAMPLE = "expected for example {latency_ms: 5}, {latency_ms: 60%} of the base's, or {fps: 30}"


def budget_limits(name: str, limits: object) -> dict[str, float | str]:
    """Return figure -> a number, or a share of the base's figure as text (`60%`). Raises ValueError.

    Frames per second become milliseconds of one input.
    """
    if not FOLDER_NAME.fullmatch(name):
        raise ValueError(f"{name}: a budget's name is a folder: letters, digits, dot, dash, underscore")
    if not isinstance(limits, Mapping) or not limits:
        raise ValueError(f"{name} limits nothing; {_EXAMPLE}")
    found: dict[str, float | str] = {}
    for figure, limit in limits.items():
        if figure == "fps":
            frames = _number(name, "fps", limit)
            if not frames > 0:
                raise ValueError(f"{name}: fps must be above 0, found {limit!r}")
            found["latency_ms"] = 1000.0 / frames
            continue
        share = share_of_base(name, str(figure), limit)
        found[str(figure)] = _number(name, str(figure), limit) if share is None else f"{100 * share:g}%"
        bounds_of(found, {str(figure): 1.0})
    return found


def bounds_of(limits: Mapping[str, float | str], base: Mapping[str, float]) -> tuple[Bound, ...]:
    """Return limits as bounds; shares of figures that `base` lacks are left out. Raises BoundError."""
    found = []
    for figure, limit in limits.items():
        share = share_of_base("", figure, limit)
        if share is None:
            found.append(Bound.budget(figure, float(limit)))
        elif figure in base:
            found.append(Bound.budget(figure, share * base[figure]))
    return tuple(found)


def share_of_base(name: str, figure: str, limit: object) -> float | None:
    """Return 0.6 for `60%`; None for a number. `name` is for the message. Raises ValueError for no share."""
    text = _SIGN.fullmatch(str(limit))
    if text is None or not text["limit"].endswith("%"):
        return None
    share = _number(name, figure, text["limit"].removesuffix("%")) / 100
    if not 0 < share <= 10:
        raise ValueError(f"{name}: {figure}: {limit!r} is no share of the base; {_EXAMPLE}")
    return share


def _number(name: str, figure: str, limit: object) -> float:
    text = _SIGN.fullmatch(str(limit))
    try:
        number = math.nan if text is None or isinstance(limit, bool) else float(text["limit"])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name}: {figure}: {limit!r} is not a limit; {_EXAMPLE}")
    return number
