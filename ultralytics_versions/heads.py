"""Outputs of detection heads: releases before 8.4.0 return raw predictions level by level, later ones by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BOX_CHANNELS = 64
"""Four sides of 16 bins each, in every network of those releases."""


def named_outputs(value: Any) -> Any:
    """Return a head's outputs in evaluation as later releases name them; what is not of such a head is not changed.

    Args:
        value: (decoded predictions, raw ones): a list of (B, 64 + classes, H, W) by level, alone, or followed by
            coefficients (B, K, cells) and masks' prototypes, or two such lists by the name of their branch.

    Returns (decoded predictions, {boxes: (B, 64, cells), scores: (B, classes, cells), ...}).
    """
    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], Tensor):
        return value
    decoded, raw = value
    if isinstance(raw, dict) and raw and all(map(_by_level, raw.values())):
        return decoded, {branch: _split(levels) for branch, levels in raw.items()}
    if _by_level(raw):
        return decoded, _split(raw)
    if isinstance(raw, tuple) and raw and _by_level(raw[0]):
        return decoded, {**_split(raw[0]), **{f"part{number}": part for number, part in enumerate(raw[1:])}}
    return value


def _by_level(raw: Any) -> bool:
    return (
        isinstance(raw, list)
        and len(raw) > 0
        and all(isinstance(part, Tensor) and part.dim() == 4 and part.shape[1] > BOX_CHANNELS for part in raw)
    )


def _split(levels: list[Tensor]) -> dict[str, Tensor]:
    flat = torch.cat([level.flatten(2) for level in levels], dim=2)
    return {"boxes": flat[:, :BOX_CHANNELS], "scores": flat[:, BOX_CHANNELS:]}
