"""Least-squares reconstruction of a pruned network's layers, without any training.

Slicing leaves every layer with the weights that it had beside the removed channels. Much of what those contributed can
be had from channels that are left, whose outputs correlate with theirs. So the weights of each layer are solved for: on
training images it is to give what the same layer of the base gives (He et al., ICCV 2017, arXiv 1707.06168; ThiNet,
Luo et al., ICCV 2017; OSSCAR, Meng et al., ICML 2024, arXiv 2403.12983). Layers are solved in order of execution, each
on the inputs that the solved layers before it give, towards the outputs of the *base*: what one layer could not reach
the next ones make up for (as Frantar and Alistarh do in Optimal Brain Compression, NeurIPS 2022, arXiv 2208.11580).

With x the inputs of a layer in the pruned network (a column for each position of an image), W its sliced weights and r
what the base's outputs exceed W x by, the change of the weights is

    D = C_rx (C_xx + a t I)^-1        C_rx, C_xx covariances, t the mean of the diagonal of C_xx

a ridge regression towards the sliced weights: where nothing was pruned r is 0 and nothing changes. Its strength a is
chosen for each layer by images that took no part, and a layer whose outputs do not come nearer on those stays as it is.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from ultralytics.nn.modules.block import DFL
from ultralytics.nn.modules.head import RTDETRDecoder

from pruning.plan import Plan
from pruning.recovery.bn_calibration import BaseMoments, corrected_norms, moved

STRENGTHS = (1e-2, 1e-1, 1.0)
"""Of the ridge, relative to the mean variance of the inputs."""
HELD_OUT = 4
"""One image of so many chooses the strength."""
MOST_ROWS = 8192
"""Positions that a layer is solved on."""
EQUAL = 1e-8
"""Squared difference to the base's outputs, as a share of their variance, that is rounding."""
_ONE, _STEP = 2**40, 2**16
"""Marks are _ONE + number * _STEP + channel, of which even sums are exact in float64."""


@dataclass(frozen=True)
class Rows:
    """What a layer of the base gives at some positions of each image: `outputs` (images, positions, channels)."""

    outputs: Tensor
    positions: Tensor
    """(positions,) indices into the flattened positions of an output."""


class BaseOutputs:
    """Outputs of every layer of a base network that can be solved for, on one batch; made once for any number of plans.

    Left out are layers that run more than once or not at all, those that are no convolution or linear map of their
    inputs by trained weights of their own, and those behind the choice of queries of RT-DETR: there row i is one object
    in the base and another one in the pruned network.
    """

    def __init__(self, base: nn.Module, images: Tensor, device: torch.device | None = None) -> None:
        """Run `base` on `images` ((B, C, H, W), 0 to 1), on `device` or where it is."""
        self.moments = BaseMoments(base, [images], device)
        self.device = self.moments.device
        self.marked = copy.deepcopy(base)
        self.names = list(solvable(self.marked))
        for number, layer in enumerate(solvable(self.marked).values()):
            marks = _ONE + number * _STEP + torch.arange(len(layer.weight), dtype=torch.float64)
            weight = marks.reshape(-1, *[1] * (layer.weight.dim() - 1)).expand_as(layer.weight)
            layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
        self.rows = self._recorded(base, images)

    @torch.no_grad()
    def _recorded(self, base: nn.Module, images: Tensor) -> dict[str, Rows]:
        found: dict[str, list[Rows]] = {}

        def recorder(name: str, number: int) -> Callable[..., None]:
            def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                flat = _positions_last(layer, output)
                chosen = _chosen(flat.shape[1], len(flat), number)
                found.setdefault(name, []).append(Rows(flat[:, chosen].contiguous(), chosen))

            return record

        layers, was_training = solvable(base), base.training
        handles = [
            layer.register_forward_hook(recorder(name, number)) for number, (name, layer) in enumerate(layers.items())
        ]
        base.eval()
        try:
            with moved(base, self.device):
                base(images.to(self.device))
        finally:
            base.train(was_training)
            for handle in handles:
                handle.remove()
        return {name: rows[0] for name, rows in found.items() if len(rows) == 1}

    def origins(self, plan: Plan) -> dict[str, tuple[str, Tensor]]:
        """Map each layer of the pruned network to its name in the base and the base's outputs that it keeps."""
        found, templates = {}, plan.graph.slice_templates if plan.graph is not None else []
        kept = templates[:]
        marked = plan.apply(self.marked)
        templates[:] = kept  # not that of the marks, which is large
        for name, layer in solvable(marked).items():
            sums = layer.weight.flatten(1)[:, 0].long()  # of the inputs that a removed block has made equal
            times = sums // _ONE
            marks = sums % _ONE // times
            found[name] = self.names[int(marks[0]) // _STEP], marks % _STEP
        return found


@torch.no_grad()
def reconstruct(small: nn.Module, plan: Plan, base: BaseOutputs, beat: Callable[[], None] = lambda: None) -> int:
    """Solve for the weights of `small`, which is `plan.apply` of the base, in place; return how many layers changed.

    Batch-norm statistics are corrected on the way (`match_statistics`), on the images of `base`. `beat` is called
    before every layer.
    """
    origins, layers = base.origins(plan), solvable(small)
    solvers = [LayerSolver(base.rows[origin], kept, beat) for origin, kept in origins.values() if origin in base.rows]
    names = [name for name, (origin, _) in origins.items() if origin in base.rows]
    with moved(small, base.device), corrected_norms(small, base.moments.origins(plan), base.moments) as expect:
        handles = [layers[name].register_forward_pre_hook(solver) for name, solver in zip(names, solvers, strict=True)]
        try:
            expect(base.moments.moments[0])
            small(base.moments.batches[0].to(base.device))
        finally:
            for handle in handles:
                handle.remove()
    return sum(solver.changed for solver in solvers)


class LayerSolver:
    """Solves for the weights of a layer before it runs."""

    def __init__(self, rows: Rows, kept: Tensor, beat: Callable[[], None]) -> None:
        self.rows, self.kept, self.beat, self.changed = rows, kept, beat, False

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        self.beat()
        groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
        wanted = self.rows.outputs[..., self.kept]  # (B, positions, outputs)
        images, positions, outputs = wanted.shape
        run: Callable[..., Tensor] = type(layer).forward  # without this hook
        made = _positions_last(layer, run(layer, inputs[0]))[:, self.rows.positions]
        lacking = wanted - made  # by the same kernel as the base's: 0, not rounding, where nothing was pruned
        if float(lacking.square().sum()) <= EQUAL * float((wanted - wanted.mean((0, 1))).square().sum()):
            return
        x = _patches(layer, inputs[0], self.rows.positions).reshape(images * positions, groups, -1).transpose(0, 1)
        rest = lacking.reshape(images * positions, groups, outputs // groups).transpose(0, 1)
        weight = layer.weight.reshape(groups, outputs // groups, -1)
        tested = torch.arange(images * positions, device=x.device) // positions % HELD_OUT == HELD_OUT - 1
        taught, judged = Ridge(x[:, ~tested], rest[:, ~tested]), (x[:, tested], rest[:, tested])
        errors = {strength: _error(*judged, taught, taught.solved(strength)) for strength in STRENGTHS}
        best = min(errors, key=lambda strength: errors[strength])
        if not errors[best] < _error(*judged, taught, torch.zeros_like(weight)):
            return
        whole = Ridge(x, rest)
        change = whole.solved(best)
        if change is None or not bool(torch.isfinite(change).all()):
            return
        layer.weight += change.reshape(layer.weight.shape).to(layer.weight)
        if layer.bias is not None:
            layer.bias += whole.offset(change).reshape(layer.bias.shape)
        self.changed = True


class Ridge:
    """Ridge regressions of what a layer's outputs lack on its inputs, of any strength.

    Solved in the smaller of two spaces, that of the inputs or, where there are fewer, that of the rows: the solution is
    the same by the matrix inversion lemma (Saunders, Gammerman and Vovk, ICML 1998).
    """

    def __init__(self, x: Tensor, rest: Tensor) -> None:
        """Take inputs (groups, rows, inputs) and what the outputs lack (groups, rows, outputs)."""
        self.x, self.rest = x.mean(1), rest.mean(1)
        self.centred, self.lacking = x - self.x[:, None], rest - self.rest[:, None]
        self.by_rows = x.shape[1] < x.shape[2]
        rows = self.centred
        self.products = (rows @ rows.mT if self.by_rows else rows.mT @ rows) / x.shape[1]
        """(groups, n, n), n the lesser of rows and inputs."""
        self.variance = rows.square().mean((1, 2)).clamp_min(1e-12)

    def solved(self, strength: float) -> Tensor | None:
        """Return the change of the weights (groups, outputs, inputs); None if float32 has rounded too much for it."""
        place = "cpu" if self.x.device.type == "mps" else self.x.device  # which has no float64
        products, rows, lacking = (t.to(place, torch.float64) for t in (self.products, self.centred, self.lacking))
        ridge = (strength * self.variance.to(products))[:, None].expand(products.shape[:2])
        factor, faults = torch.linalg.cholesky_ex(products + torch.diag_embed(ridge))
        if bool(faults.any()):
            return None
        if self.by_rows:
            change = torch.cholesky_solve(lacking, factor).mT @ rows
        else:
            change = torch.cholesky_solve(rows.mT @ lacking, factor).mT
        return (change / rows.shape[1]).to(self.x)

    def offset(self, change: Tensor) -> Tensor:
        """Return the change of the bias (groups, outputs)."""
        return self.rest - (change @ self.x[..., None])[..., 0]


def _error(x: Tensor, rest: Tensor, taught: Ridge, change: Tensor | None) -> float:
    """Return the squared error of a change of the weights on other rows, with the bias that fits it best."""
    if change is None:
        return math.inf
    error = float((rest - x @ change.mT - taught.offset(change)[:, None]).square().sum())
    return error if math.isfinite(error) else math.inf


_OF_QUERIES = ("enc_bbox_head", "query_pos_head", "decoder", "dec_score_head", "dec_bbox_head")
"""Parts of an RT-DETR head that see chosen queries."""


def solvable(model: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the layers of a network that can be solved for, by name; see `BaseOutputs`."""
    fixed = [module for module in model.modules() if isinstance(module, DFL)]
    heads = [module for module in model.modules() if isinstance(module, RTDETRDecoder)]
    fixed += [getattr(head, name) for head in heads for name in _OF_QUERIES if hasattr(head, name)]
    left_out = {id(inner) for module in fixed for inner in module.modules()}
    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and _is_plain(layer)
        if id(layer) not in left_out and uses[id(layer.weight)] == 1
    }


def _is_plain(layer: nn.Conv2d | nn.Linear) -> bool:
    """Tell whether a layer does no more than its class: others pad or scale weights on their own."""
    kind = type(layer)
    if isinstance(layer, nn.Linear):
        return kind.forward is nn.Linear.forward
    own = kind.forward is not nn.Conv2d.forward or kind._conv_forward is not nn.Conv2d._conv_forward
    return not own and isinstance(layer.padding, tuple) and layer.padding_mode == "zeros"


def _positions_last(layer: nn.Module, output: Tensor) -> Tensor:
    """Return outputs as (B, positions, C)."""
    return output.flatten(2).mT if isinstance(layer, nn.Conv2d) else output.reshape(len(output), -1, output.shape[-1])


def _chosen(positions: int, images: int, seed: int) -> Tensor:
    """Return the sorted positions of each image on which a layer is solved."""
    most = max(1, MOST_ROWS // images)
    if positions <= most:
        return torch.arange(positions)
    return torch.from_numpy(np.sort(np.random.default_rng(seed).choice(positions, most, replace=False)))


def _patches(layer: nn.Module, x: Tensor, positions: Tensor) -> Tensor:
    """Return the inputs (B, positions, inputs) of a layer at positions of its output, in the order of its weights."""
    if not isinstance(layer, nn.Conv2d):
        return x.reshape(len(x), -1, x.shape[-1])[:, positions]
    (high, wide), (down, right), (over, beside) = layer.kernel_size, layer.stride, layer.dilation
    vertical, horizontal = (int(p) for p in layer.padding)
    width = (x.shape[-1] + 2 * horizontal - beside * (wide - 1) - 1) // right + 1
    padded = functional.pad(x, (horizontal, horizontal, vertical, vertical))
    rows = (positions // width * down)[:, None] + torch.arange(high) * over
    columns = (positions % width * right)[:, None] + torch.arange(wide) * beside
    found = padded[:, :, rows[:, :, None], columns[:, None, :]]  # (B, C, positions, high, wide)
    return found.transpose(1, 2).flatten(2)
