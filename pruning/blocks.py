"""What Ultralytics blocks store about their own widths, one entry per class.

Widths live in tensors, and for some blocks in attributes too. After surgery each entry re-reads its attributes from
the tensors of the pruned block, so the tensors stay the only truth. An entry also says how the block cuts its
channels: `pieces` (a split by stored sizes that `refresh` keeps right), `dims` (attention whose heads shrink evenly),
`heads` (attention whose heads go whole, because the scale is computed from the head's dimension).
Classes are found by name along the method resolution order, so subclasses follow their parents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from torch import nn

SplitMode = Literal["pieces", "dims", "heads"]


@dataclass(frozen=True)
class Block:
    """How one class stores and cuts widths. `equal_inputs`: (layer, layer) whose input widths must stay equal."""

    mode: SplitMode | None = None
    refresh: Callable[[Any], None] | None = None
    equal_inputs: tuple[str, str] | None = None


def _halves(block: Any) -> None:
    block.c = _outputs(block.cv1) // 2


def _attention(block: Any) -> None:
    """`num_heads` was set by the surgery, which knows how many heads are left."""
    block.head_dim = block.proj.conv.weight.shape[1] // block.num_heads
    block.key_dim = (_outputs(block.qkv) // block.num_heads - block.head_dim) // 2  # `scale` keeps its trained value


def _area_attention(block: Any) -> None:
    block.all_head_dim = block.proj.conv.weight.shape[1]
    block.num_heads = block.all_head_dim // block.head_dim


def _outputs(layer: Any) -> int:
    return int(getattr(layer, "conv", layer).weight.shape[0])


BLOCKS: dict[str, Block] = {
    "C2f": Block("pieces", _halves),
    "C2": Block("pieces", _halves),
    "PSA": Block("pieces", _halves),
    "C2PSA": Block("pieces", _halves),
    "C2fPSA": Block("pieces", _halves),
    "RepNCSPELAN4": Block("pieces", _halves),
    "ELAN1": Block("pieces", _halves),
    "Attention": Block("dims", _attention, equal_inputs=("qkv.conv.weight", "proj.conv.weight")),
    "AAttn": Block("heads", _area_attention),
}


def block_of(module: nn.Module) -> Block | None:
    """The entry of a module's class or of its nearest listed parent."""
    kind: Any = type(module)
    return block_of_class(kind)


@cache
def block_of_class(kind: type[Any]) -> Block | None:
    """The entry of a class or of its nearest listed parent."""
    for cls in kind.__mro__:
        if cls.__name__ in BLOCKS and (cls.__module__ or "").startswith("ultralytics."):
            return BLOCKS[cls.__name__]
    return None


def split_mode(class_name: str) -> SplitMode | None:
    """How a class of this name cuts channels by stored numbers; None when it is not known."""
    entry = BLOCKS.get(class_name)
    return entry.mode if entry else None
