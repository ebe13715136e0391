"""Surgery: apply a plan as a smaller module, or as a full-size module with zeros.

`apply` builds the new module from the kept slices directly; nothing of full size is copied first. The module tree is
rebuilt by a template (module_template.py), tensors are sliced along the dimensions that the group table names, and the
few width attributes of stock classes are re-read from the new tensors.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pruning.channels import TracedChannels
from pruning.structure.block_removal import remove_blocks, silence_blocks
from pruning.structure.fingerprint import check_fingerprint
from pruning.structure.level_removal import Pyramid, remove_levels, silence_levels
from pruning.structure.module_template import ModelClone, TreeChanged
from pruning.structure.slice_template import SliceTemplate
from pruning.trace.groups import GroupTable

Flags = npt.NDArray[np.bool_]


def apply(graph: TracedChannels, keep: Flags, removed: Sequence[str], model: nn.Module) -> nn.Module:
    """Return a new module with only the kept channels; classes, names and hooks stay, weights are copied.

    Args:
        keep: (units,) True where a unit of the graph is kept.
        removed: names of blocks and detection levels to remove whole.

    Raises PlanError: the graph is not that of the model.
    """
    with torch.no_grad(), _no_collection():
        slicing, clone = _clone(graph, model)
        small = clone.filled(slicing.cut(clone.tensors, keep))
        _set_heads(graph.table, keep, small)
        slicing.refresh(clone.clones)
    if not removed:
        return small
    levels, blocks = levels_and_blocks(graph.pyramid, removed)
    return remove_levels(remove_blocks(small, blocks), levels)  # blocks first: levels renumber the layers


def levels_and_blocks(pyramid: Pyramid | None, removed: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the names of removed parts into those of detection levels and those of blocks."""
    levels = () if pyramid is None else pyramid.among(removed)
    return levels, tuple(name for name in removed if name not in levels)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disable garbage collection: thousands of new containers would trigger several useless passes."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _clone(graph: TracedChannels, model: nn.Module) -> tuple[SliceTemplate, ModelClone]:
    """Clone the modules with the graph's template, rebuilt for a model of another structure."""
    if graph.slice_templates:
        with suppress(TreeChanged):
            return graph.slice_templates[0], graph.slice_templates[0].template.clone(model)
    check_fingerprint(model, graph.fingerprint)  # a template is only kept for a model that the graph fits
    slicing = SliceTemplate.of(graph.table.alike, model)
    graph.slice_templates[:] = [slicing]
    return slicing, slicing.template.clone(model)


def _set_heads(table: GroupTable, keep: Flags, small: nn.Module) -> None:
    """Set the number of remaining heads, the only width that no tensor shows."""
    for block, heads in table.heads.items():
        left = sum(any(keep[table.starts[g] : table.starts[g + 1]].any() for g in head) for head in heads)
        small.get_submodule(block).num_heads = left  # type: ignore[assignment]


def mask(graph: TracedChannels, keep: Flags, removed: Sequence[str], model: nn.Module) -> nn.Module:
    """Return a deep copy whose removed channels are zero where they are produced and where they are read.

    Removed blocks add nothing to their stream, and the predictions of removed levels are left out.
    """
    twin = copy.deepcopy(model)
    tensors = dict(twin.named_parameters())
    with torch.no_grad():
        for (name, dim), gone in _removed_indices(graph.table, keep).items():
            if name in tensors:
                tensors[name].index_fill_(dim, gone.to(tensors[name].device), 0)
    levels, blocks = levels_and_blocks(graph.pyramid, removed)
    return silence_levels(silence_blocks(twin, blocks), levels)


def _removed_indices(table: GroupTable, keep: Flags) -> dict[tuple[str, int], Tensor]:
    return {
        slot: torch.from_numpy(np.flatnonzero(~keep[units]))
        for slot, units in table.slots.items()
        if not keep[units].all()
    }
