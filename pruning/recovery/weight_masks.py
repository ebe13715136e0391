"""Unstructured and N:M masks that survive fine-tuning.

A mask is one boolean tensor for each convolution or linear weight, true where the weight stays. Masks live beside the
model, not in it, so the checkpoint keeps stock classes; in a checkpoint they are its zeros (`masks_of`). A training
that is given masks puts the zeros back after every optimizer step (a fixed mask: Han et al., NeurIPS 2015, arXiv
1506.02626). Zeros do not make dense kernels faster; N:M (2 of every 4 along the inputs, Mishra et al., arXiv
2104.08378) is what sparse tensor cores run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.errors import PlanError


@dataclass(frozen=True, eq=False)
class WeightMasks:
    """Boolean tensors by weight name, true where the weight stays."""

    keep: Mapping[str, Tensor]

    def enforce(self, model: nn.Module) -> None:
        """Zero every masked weight of `model`, in place."""
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, keep in self.keep.items():
                parameters[name].mul_(keep.to(parameters[name].device))

    def holds(self, model: nn.Module) -> bool:
        """Return whether all masked weights of `model` are exactly zero."""
        parameters = dict(model.named_parameters())
        return all(not bool(parameters[name].detach().cpu()[~keep].any()) for name, keep in self.keep.items())


def sparsity(model: nn.Module) -> float:
    """Return the share of exact zeros among the weights of convolutions and linear layers, 0 to 1."""
    weights = [weight.detach() for _, weight in prunable_weights(model)]
    return sum(int((w == 0).sum()) for w in weights) / max(1, sum(w.numel() for w in weights))


def prunable_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the trainable weights of convolutions and linear layers (a fixed decoding such as DFL is none)."""
    for path, module in model.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)) and ".dfl." not in path:
            yield f"{path}.weight" if path else "weight", module.weight


def unstructured(model: nn.Module, share: float, *, whole_model: bool = True) -> WeightMasks:
    """Mask the `share` of weights with the smallest absolute value, over the model or within each layer.

    Raises PlanError unless 0 <= share < 1.
    """
    if not 0 <= share < 1:
        raise PlanError(f"sparsity must be at least 0 and below 1, found {share!r}")
    sizes = {name: weight.detach().abs().cpu() for name, weight in prunable_weights(model)}
    if whole_model:
        everything = torch.cat([size.flatten() for size in sizes.values()])
        flags = _largest(everything, share).split([size.numel() for size in sizes.values()])
        return WeightMasks({n: flag.view(s.shape) for (n, s), flag in zip(sizes.items(), flags, strict=True)})
    return WeightMasks({name: _largest(size.flatten(), share).view(size.shape) for name, size in sizes.items()})


def _largest(sizes: Tensor, share: float) -> Tensor:
    keep = torch.ones(sizes.numel(), dtype=torch.bool)
    keep[torch.argsort(sizes, stable=True)[: int(share * sizes.numel())]] = False
    return keep


def masks_of(model: nn.Module) -> WeightMasks:
    """Recover the masks of a model from its zeros: whatever is not zero stays.

    Layers without a zero are not masked. A weight that is zero by chance stays zero, which has no effect on the output.
    """
    found = {name: weight.detach().cpu() != 0 for name, weight in prunable_weights(model)}
    return WeightMasks({name: keep for name, keep in found.items() if not bool(keep.all())})


def n_of_m(model: nn.Module, n: int = 2, m: int = 4) -> WeightMasks:
    """Mask all but the `n` largest of every `m` weights along the inputs; other layers stay dense.

    Raises PlanError unless 0 < n <= m.
    """
    if not 0 < n <= m:
        raise PlanError(f"N:M sparsity needs 0 < N <= M, found {n}:{m}")
    return WeightMasks(
        {
            name: _n_of_m(weight.detach().cpu(), n, m)
            for name, weight in prunable_weights(model)
            if weight.shape[1] % m == 0 and not _is_transposed(model, name)
        }
    )


def _is_transposed(model: nn.Module, weight: str) -> bool:
    """Tell whether the inputs of a weight are its first dimension: no runtime knows N:M along that."""
    return isinstance(model.get_submodule(weight.rpartition(".")[0]), nn.ConvTranspose2d)


def _n_of_m(weight: Tensor, n: int, m: int) -> Tensor:
    rows = weight.abs().transpose(1, -1).reshape(-1, m)  # inputs last: m neighbours along the inputs
    keep = torch.zeros_like(rows, dtype=torch.bool)
    keep.scatter_(1, rows.topk(n, dim=1).indices, True)
    return keep.reshape(weight.transpose(1, -1).shape).transpose(1, -1).contiguous()
