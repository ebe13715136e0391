"""Width attributes of Ultralytics blocks, one entry per class.

Widths are stored in tensors, and for some blocks in attributes too. After surgery each entry re-reads its attributes
from the tensors of the pruned block, so the tensors are the only source. An entry also says how the block splits its
channels: `pieces` (a split by stored sizes that `refresh` updates), or `dims` (attention: all heads keep equally many
channels, chosen head by head, and whole heads can be removed). Attention divides by the root of a head's dimension;
where that shrinks, the queries are rescaled, so the block computes the same. Classes are found by name along the method
resolution order, so subclasses inherit the entry of their parents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from torch import nn

SplitMode = Literal["pieces", "dims"]


@dataclass(frozen=True)
class Block:
    """How one class stores and splits widths. `equal_inputs`: (layer, layer) whose input widths must stay equal."""

    mode: SplitMode | None = None
    refresh: Callable[[Any], None] | None = None
    equal_inputs: tuple[str, str] | None = None


def _halves(block: Any) -> None:
    block.c = _outputs(block.cv1) // 2


def _transformer(block: Any) -> None:
    block.c2 = block.linear.weight.shape[0]


def _attention(block: Any) -> None:
    """Re-read the widths of an attention block; `num_heads` was set by surgery."""
    block.head_dim = block.proj.conv.weight.shape[1] // block.num_heads
    block.key_dim = (_outputs(block.qkv) // block.num_heads - block.head_dim) // 2
    scale = block.key_dim**-0.5
    if scale != block.scale:
        _rescale_queries(block, block.key_dim, block.scale / scale)
        block.scale = scale


def _area_attention(block: Any) -> None:
    """As `_attention`; queries, keys and values have one dimension, and the scale is computed in each forward pass."""
    before = block.head_dim
    block.all_head_dim = block.proj.conv.weight.shape[1]
    block.head_dim = block.all_head_dim // block.num_heads
    if block.head_dim != before:
        _rescale_queries(block, block.head_dim, (block.head_dim / before) ** 0.5)


def _rescale_queries(block: Any, dimension: int, factor: float) -> None:
    """Multiply the queries, the first `dimension` rows of each head in `qkv`, which has no activation."""
    last = getattr(block.qkv, "bn", block.qkv.conv)  # a fused layer has no norm
    for tensor in (last.weight, last.bias):
        tensor.data.unflatten(0, (block.num_heads, -1))[:, :dimension].mul_(factor)


def _outputs(layer: Any) -> int:
    return int(getattr(layer, "conv", layer).weight.shape[0])


_SAME_WIDTH = ("qkv.conv.weight", "proj.conv.weight")
"""Of attention that shapes its values like its input."""
BLOCKS: dict[str, Block] = {
    "C2f": Block("pieces", _halves),
    "C2": Block("pieces", _halves),
    "PSA": Block("pieces", _halves),
    "C2PSA": Block("pieces", _halves),
    "C2fPSA": Block("pieces", _halves),
    "RepNCSPELAN4": Block("pieces", _halves),
    "ELAN1": Block("pieces", _halves),
    "TransformerBlock": Block(refresh=_transformer),
    "Attention": Block("dims", _attention, equal_inputs=_SAME_WIDTH),
    "AAttn": Block("dims", _area_attention),
}


def block_of(module: nn.Module) -> Block | None:
    """Return the entry of a module's class or of its nearest listed parent."""
    kind: Any = type(module)
    return block_of_class(kind)


@cache
def block_of_class(kind: type[Any]) -> Block | None:
    """Return the entry of a class or of its nearest listed parent."""
    for cls in kind.__mro__:
        if cls.__name__ in BLOCKS and (cls.__module__ or "").startswith("ultralytics."):
            return _of_its_release(cls, BLOCKS[cls.__name__])
    return None


def _of_its_release(cls: Any, entry: Block) -> Block:
    """Return the entry of a class as its release computes: early area attention takes its widths from the input."""
    early = cls.__name__ == "AAttn" and "all_head_dim" not in cls.forward.__code__.co_names
    return replace(entry, equal_inputs=_SAME_WIDTH) if early else entry


def split_mode(class_name: str) -> SplitMode | None:
    """Return how a class of this name splits channels by stored numbers; None if unknown."""
    entry = BLOCKS.get(class_name)
    return entry.mode if entry else None
