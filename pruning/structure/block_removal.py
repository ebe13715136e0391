"""Whole blocks that can be removed: residual branches, x + f(x), of which x is kept.

A residual block whose branch is silent passes its input on, so it can be taken out of a chain without any change. Where
the blocks of a chain are also read by name (C2f and its kin concatenate the output of every block), the output of the
removed one equals its input: the reader's filters for the two are added and one input goes. Both are exact. (Removing
whole residual blocks: Chen and Zhao, TPAMI 2019; Elkerdawy et al., ACCV 2020, arXiv 2007.15704.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pruning.errors import PlanError


@dataclass(frozen=True)
class Residual:
    """A residual block by the name of its class, the attribute that says so, and the norms that end its branches.

    Classes of other libraries have the same names: a block without this attribute, or without these norms, is none.
    """

    name: str
    is_residual: Callable[[Any], bool]
    ends: tuple[str, ...]


def _said(attribute: str) -> Callable[[Any], bool]:
    return lambda block: bool(getattr(block, attribute, False))


RESIDUALS = (
    Residual("Bottleneck", _said("add"), ("cv2.bn",)),
    Residual("CIB", _said("add"), ("cv1.4.bn",)),
    Residual("PSABlock", _said("add"), ("attn.proj.bn", "ffn.1.bn")),
    Residual("ABlock", lambda block: True, ("attn.proj.bn", "mlp.1.bn")),
    Residual("BasicBlock", lambda block: getattr(block, "downsample", block) is None, ("bn2",)),
    Residual("InvertedResidual", _said("use_res_connect"), ("block.-1.1",)),  # MobileNetV3
    Residual("InvertedResidual", _said("use_res_connect"), ("conv.-1",)),  # MobileNetV2
)

CONCATENATES = ("C2f", "A2C2f")
"""Classes whose forward reads the output of every block of the list `m` in `cv2`."""


@dataclass(frozen=True)
class RemovableBlock:
    """A residual block: its path, and the list that concatenates its output (None in a plain chain)."""

    path: str
    reader: str | None


def removable_blocks(model: nn.Module) -> tuple[RemovableBlock, ...]:
    """Return all residual blocks that can be removed, in network order."""
    found = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Sequential):
            found += [RemovableBlock(f"{path}.{name}", None) for name, b in module._modules.items() if _residual(b)]
        elif _kind(module, CONCATENATES):
            found += [RemovableBlock(f"{path}.m.{i}", path) for i, block in enumerate(module.m) if _residual(block)]
    return tuple(found)


def _kind(module: nn.Module | None, names: Iterable[str]) -> str | None:
    return next((cls.__name__ for cls in type(module).__mro__ if cls.__name__ in names), None)


def _residual(block: Any) -> Residual | None:
    """Return what the block is known as; None if it is no residual block, or one of a YOLO's own list (addressed)."""
    if hasattr(block, "f"):
        return None
    names = {cls.__name__ for cls in type(block).__mro__}
    known = (entry for entry in RESIDUALS if entry.name in names and entry.is_residual(block))
    return next((entry for entry in known if all(_descend(block, end) is not None for end in entry.ends)), None)


def remove_blocks(model: nn.Module, paths: Sequence[str]) -> nn.Module:
    """Remove the named blocks from `model`, in place, and return it. Raises PlanError."""
    blocks = {block.path: block for block in removable_blocks(model)}
    check_blocks(paths, blocks)
    for path in sorted(paths, key=_position, reverse=True):  # from the back: earlier blocks keep their numbers
        reader = blocks[path].reader
        parent, _, name = path.rpartition(".")
        if reader is not None:
            _merge_inputs(model.get_submodule(reader), int(name))
        container = model.get_submodule(parent)
        del container[list(container._modules).index(name)]  # type: ignore[operator]
    return model


def check_blocks(paths: Iterable[str], blocks: Iterable[str]) -> None:
    """Raise PlanError unless every path names a removable block, once."""
    known, asked = set(blocks), list(paths)
    unknown = [path for path in asked if path not in known]
    if unknown or len(set(asked)) != len(asked):
        raise PlanError(
            f"{unknown or asked}: no removable blocks or detection levels of this model, or named twice; "
            f"those are {', '.join(sorted(known)) or 'none'}"
        )


def _position(path: str) -> tuple[tuple[int, int | str], ...]:
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in path.split("."))


def _merge_inputs(reader: Any, index: int) -> None:
    """Add the filters of `cv2` that read block `index` to those that read its input, and drop the former."""
    conv = reader.cv2.conv
    width = _chain_width(reader)
    first = conv.weight.shape[1] - len(reader.m) * width  # the blocks' outputs are the last slices
    own, before = first + index * width, first + (index - 1) * width
    with torch.no_grad():
        weight = conv.weight.detach().clone()
        weight[:, before : before + width] += weight[:, own : own + width]
        kept = torch.cat([weight[:, :own], weight[:, own + width :]], dim=1)
    conv.weight = nn.Parameter(kept, conv.weight.requires_grad)
    conv.in_channels = kept.shape[1]


def _chain_width(reader: Any) -> int:
    """Return the channels of the stream through the blocks of the list."""
    first = reader.cv1.conv.weight.shape[0]
    return int(first if _kind(reader, ("A2C2f",)) else first // 2)


def silence_blocks(model: nn.Module, paths: Sequence[str]) -> nn.Module:
    """Zero the branches of the named blocks in place: equals `remove_blocks` in output, at full size."""
    check_blocks(paths, [block.path for block in removable_blocks(model)])
    for path in paths:
        block: Any = model.get_submodule(path)
        known = _residual(block)
        if known is None:
            raise PlanError(f"{path} is not a residual block: {type(block).__name__}")
        for end in known.ends:
            norm = _descend(block, end)
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)
    return model


def _descend(module: Any, path: str) -> Any:
    """Return the module at a path, whose numbers may count from the end; None if there is none."""
    for part in path.split("."):
        children = list(getattr(module, "_modules", {}).values())
        if part.lstrip("-").isdigit():
            module = children[int(part)] if -len(children) <= int(part) < len(children) else None
        else:
            module = getattr(module, part, None)
    return module
