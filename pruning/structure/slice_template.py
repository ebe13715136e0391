"""Slicing of weights, prepared once per model structure and reused for every candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pruning.structure.block_widths import block_of_class
from pruning.structure.module_template import Template

Ints = npt.NDArray[np.int64]
Cuts = tuple[tuple[int, int], ...]
"""(dimension, vector of units) of a tensor that can lose something."""


@dataclass(frozen=True)
class SliceTemplate:
    """Index tables for slicing models of one structure. Holds no weights.

    V vectors of units (the units of a dimension, index by index) serve all tensors. `units` holds them end to end,
    `places` the index of each entry in its own vector, `bounds` (V + 1,) where they begin; `parameters` are the tensors
    that are trained.
    """

    template: Template
    cuts: tuple[Cuts, ...]
    units: Ints
    places: Ints
    bounds: Ints
    parameters: tuple[int, ...]
    refreshers: tuple[tuple[int, Callable[[Any], None]], ...]

    @classmethod
    def of(cls, alike: Sequence[tuple[Ints, tuple[tuple[str, int], ...]]], model: nn.Module) -> SliceTemplate:
        """Build the template of models structured like `model`; `alike` is that of a `GroupTable`."""
        template = Template(model)
        vectors = [units for units, _ in alike]
        numbers = {slot: number for number, (_, slots) in enumerate(alike) for slot in slots}
        cuts = tuple(
            tuple((dim, numbers[name, dim]) for dim in range(tensor.dim()) if (name, dim) in numbers)
            for name, tensor in zip(template.names, template.tensors, strict=True)
        )
        bounds = np.concatenate([[0], np.cumsum([len(units) for units in vectors])])
        places = np.concatenate([np.arange(len(units)) for units in vectors])
        parameters = tuple(n for n, tensor in enumerate(template.tensors) if isinstance(tensor, nn.Parameter))
        refreshers = tuple((n, refresh) for n, kind in enumerate(template.kinds) for refresh in _refreshers(kind))
        return cls(template, cuts, np.concatenate(vectors), places, bounds, parameters, refreshers)

    def cut(self, tensors: Sequence[Tensor], keep: npt.NDArray[np.bool_]) -> list[Tensor]:
        """Copy the kept slices of `tensors`; `keep` (units,) is True where a unit stays. Call without gradients."""
        kept = _Kept(self, keep)
        on_cpu = kept.on(torch.device("cpu"))
        cut = []
        for tensor, cuts in zip(tensors, self.cuts, strict=True):  # hundreds, most of them short vectors
            vectors = on_cpu if tensor.is_cpu else kept.on(tensor.device)
            value = tensor
            if len(cuts) == 1:
                ((dim, number),) = cuts
                indices = vectors[number]
                if indices is not None:
                    value = tensor.index_select(dim, indices)
            elif cuts:
                value = _sliced(tensor, [(dim, vectors[number]) for dim, number in cuts])
            cut.append(tensor.clone() if value is tensor else value)
        for number in self.parameters:
            cut[number].__class__ = nn.Parameter  # as torch makes a lazy parameter real; nn.Parameter(x) makes another
            cut[number].requires_grad = tensors[number].requires_grad
        return cut

    def refresh(self, modules: Sequence[nn.Module]) -> None:
        """Update the stored widths of all layers and blocks from their tensors."""
        for number, refresh in self.refreshers:
            refresh(modules[number])


class _Kept:
    """Kept indices of every vector of units (None: all of them), cached per device."""

    def __init__(self, slicing: SliceTemplate, keep: npt.NDArray[np.bool_]) -> None:
        flags = keep[slicing.units]
        counts = np.add.reduceat(flags, slicing.bounds[:-1], dtype=np.int64)
        self.whole: list[bool] = (counts == np.diff(slicing.bounds)).tolist()
        self.counts: list[int] = counts.tolist()
        self.indices = torch.from_numpy(slicing.places[flags])
        self.of_device: dict[torch.device, list[Tensor | None]] = {}

    def on(self, device: torch.device) -> list[Tensor | None]:
        """Return the kept indices of each vector on `device`."""
        found = self.of_device.get(device)
        if found is None:
            pieces = self.indices.to(device).split(self.counts)
            found = [None if whole else piece for whole, piece in zip(self.whole, pieces, strict=True)]
            self.of_device[device] = found
        return found


def _sliced(source: Tensor, cuts: Sequence[tuple[int, Tensor | None]]) -> Tensor:
    """Return the slices of one tensor that (dimension, indices) keep; the tensor itself where nothing is removed."""
    asked = [(dim, indices) for dim, indices in cuts if indices is not None]
    if len(asked) == 2 and asked[0][0] == 0 and len(asked[0][1]) * source.stride(0) > BLOCK:
        return _in_blocks(source, asked[0][1], *asked[1])
    for dim, indices in asked:
        source = source.index_select(dim, indices)
    return source


BLOCK = 1 << 19
"""Numbers (2 MB) of an intermediate result: what stays in the cache, and what a large layer may take beside itself."""


def _in_blocks(source: Tensor, rows: Tensor, dim: int, indices: Tensor) -> Tensor:
    """Slice `rows`, then `indices` of `dim`, a block of rows at a time, to avoid an intermediate copy of all rows."""
    shape = list(source.shape)
    shape[0], shape[dim] = len(rows), len(indices)
    result = source.new_empty(shape)
    for piece, part in zip(result.split(step := max(1, BLOCK // source.stride(0))), rows.split(step), strict=True):
        torch.index_select(source.index_select(0, part), dim, indices, out=piece)
    return result


Refresh = Callable[[Any], None]


def _refresh_transposed(module: Any) -> None:
    state, weight = module.__dict__, module._parameters["weight"]
    state["in_channels"], state["out_channels"] = weight.shape[0], weight.shape[1] * module.groups


def _refresh_convolution(module: Any) -> None:
    state = module.__dict__  # plain numbers: nn.Module's own __setattr__ would only take time
    outputs, inputs = state["_parameters"]["weight"].shape[:2]
    if state["groups"] == state["in_channels"] > 1:  # depthwise: one input channel per group
        state["groups"] = outputs // (state["out_channels"] // state["groups"])
    state["out_channels"], state["in_channels"] = outputs, inputs * state["groups"]


def _refresh_linear(module: Any) -> None:
    module.__dict__["out_features"], module.__dict__["in_features"] = module._parameters["weight"].shape


def _refresh_prelu(module: Any) -> None:
    module.__dict__["num_parameters"] = module._parameters["weight"].numel()


def _refresh_norm(module: Any) -> None:
    weight = module._parameters["weight"]
    if weight is not None:
        module.__dict__["num_features"] = weight.shape[0]


LAYERS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], Refresh], ...] = (
    (nn.ConvTranspose2d, _refresh_transposed),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), _refresh_convolution),
    (nn.Linear, _refresh_linear),
    (nn.PReLU, _refresh_prelu),
    (nn.modules.batchnorm._BatchNorm, _refresh_norm),
)


def _refreshers(kind: Any) -> Iterator[Refresh]:
    """Yield the functions that update the stored widths of a layer or block of this class from its tensors."""
    yield from (refresh for classes, refresh in LAYERS if issubclass(kind, classes))
    block = block_of_class(kind)
    if block is not None and block.refresh is not None:
        yield block.refresh
