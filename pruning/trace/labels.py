"""Channel labels: which removable channel each element of a tensor belongs to.

A label tensor has the shape of the activation that it describes and holds, for each element, the number of an *atom*
(one channel of one layer), or 0 where removing channels changes nothing. Labels are int32 torch tensors, so a view,
a permutation or a concatenation is followed by running the very same ATen operator on the labels. Dimensions along
which a label does not change are kept as stride-0 views (`Tensor.expand`), so a 640 px feature map costs no memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def spread(vector: Tensor, dim: int, shape: Sequence[int]) -> Tensor:
    """Return labels of shape `shape` that vary along `dim` only, with the values of `vector` (length shape[dim])."""
    view = [1] * len(shape)
    view[dim] = -1
    return vector.reshape(view).expand(tuple(shape))


def unlabelled(shape: Sequence[int]) -> Tensor:
    """Return all-zero labels: nothing depends on a removable channel."""
    return torch.zeros((), dtype=torch.int32).expand(tuple(shape))


def broadcast(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Expand both tensors to their common shape."""
    shape = torch.broadcast_shapes(first.shape, second.shape)
    return first.expand(shape), second.expand(shape)


def compress(labels: Tensor) -> Tensor:
    """Cut every stride-0 dimension to length 1 (a view)."""
    index = tuple(
        slice(0, 1) if stride == 0 else slice(None) for stride, _ in zip(labels.stride(), labels.shape, strict=True)
    )
    return labels[index] if index else labels


def varies(labels: Tensor, dim: int) -> bool:
    """Return whether the label changes along `dim`."""
    small = compress(labels)
    dim %= labels.dim()
    if small.shape[dim] <= 1:
        return False
    return not bool((small == small.narrow(dim, 0, 1)).all())


def flatten_constant(labels: Tensor, dim: int) -> Tensor | None:
    """Return the label of each index along `dim`, or None if labels also vary along another dimension."""
    small = compress(labels)
    dim %= labels.dim()
    vector = small
    for other in reversed(range(labels.dim())):
        if other != dim:
            vector = vector.select(other, 0)
            # `select` removes a dimension behind `dim` or before it; both keep `dim` in place once iterated backwards.
    shape = [1] * labels.dim()
    shape[dim] = -1
    if not bool((small == vector.reshape(shape)).all()):
        return None
    return vector.reshape(-1).expand(labels.shape[dim]).contiguous()


def atoms_in(labels: Tensor) -> Tensor:
    """Return the distinct atoms of a label tensor, without 0."""
    found: Tensor = compress(labels).unique()
    return found[found != 0]
