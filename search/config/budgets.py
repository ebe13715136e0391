"""Limits of a named budget: numbers, shares of the base (`latency_ms: 60%`), frames per second (`fps: 30`)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from objectives.choice import Bound

_FOLDER = r"[A-Za-z0-9][A-Za-z0-9._-]"
FOLDER_NAME = re.compile(_FOLDER + "{0,99}")
"""Of a run, and of a budget."""
PICK_NAME = re.compile(_FOLDER + "{0,149}")
"""Of a pick's folder: a budget, `edge`, or one by the latencies of a device (40 letters at most): `edge-on-pi5`."""
_SIGN = re.compile(r"\s*(?P<sign><=|>=)?\s*(?P<limit>.*?)\s*")
_TIMES = {"fps", "latency_ms"}
"""Two units of one figure."""
_EXAMPLE = "expected for example {latency_ms: 5}, {latency_ms: 60%} of the base's, or {fps: 30}"


def budget_limits(name: str, limits: object, batch: int = 1) -> dict[str, float | str]:
    """Return figure -> a number, or a share of the base's figure as text (`60%`).

    Frames per second become milliseconds of a whole batch, as latencies are.

    Args:
        batch: images of one inference.

    Raises:
        ValueError: no limit, one that an accuracy or a cost cannot have, or two of one figure.
    """
    if not FOLDER_NAME.fullmatch(name):
        raise ValueError(f"{name}: a budget's name is a folder: letters, digits, dot, dash, underscore")
    if not isinstance(limits, Mapping) or not limits:
        raise ValueError(f"{name} limits nothing; {_EXAMPLE}")
    if limits.keys() >= _TIMES:
        raise ValueError(f"{name}: fps and latency_ms limit the same figure; expected one of them")
    found: dict[str, float | str] = {}
    for figure, limit in limits.items():
        _check_side(name, str(figure), limit)
        if figure == "fps":
            frames = _number(name, "fps", limit)
            if not frames > 0:
                raise ValueError(f"{name}: fps must be above 0, found {limit!r}")
            found["latency_ms"] = 1000.0 * batch / frames
            continue
        share = share_of_base(name, str(figure), limit)
        found[str(figure)] = _number(name, str(figure), limit) if share is None else f"{100 * share:g}%"
        bounds_of(found, {str(figure): 1.0})
    return found


def without_replaced(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study without limits of time that an override says in the other unit.

    `budgets.edge.fps=30` takes the place of the study's `latency_ms` of that budget, and the other way round.
    """
    budgets = data.get("budgets")
    if not isinstance(budgets, Mapping):
        return dict(data)
    kept = {
        name: {
            figure: limit
            for figure, limit in limits.items()
            if figure not in _TIMES or not any(f"budgets.{name}.{other}" in overrides for other in _TIMES - {figure})
        }
        if isinstance(limits, Mapping)
        else limits
        for name, limits in budgets.items()
    }
    return {**data, "budgets": kept}


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


def _check_side(name: str, figure: str, limit: object) -> None:
    """Raise ValueError for a sign that bounds the wrong side, as in `latency_ms: ">=5"`, or for an unknown figure."""
    text = _SIGN.fullmatch(str(limit))
    side = ">=" if figure == "fps" else Bound.budget(figure, 0.0).op
    if text is not None and text["sign"] not in (None, side):
        better = "more" if side == ">=" else "less"
        expected = f"{side}{text['limit']}"
        raise ValueError(f"{name}: {figure}: {limit!r}: of {figure} {better} is better; expected {expected!r}")


def _number(name: str, figure: str, limit: object) -> float:
    text = _SIGN.fullmatch(str(limit))
    try:
        number = math.nan if text is None or isinstance(limit, bool) else float(text["limit"])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name}: {figure}: {limit!r} is not a limit; {_EXAMPLE}")
    return number
