"""Label propagation rules, one per ATen operator: labels of the inputs in, labels of the output out.

A rule has the signature `rule(tracer, node, *labels, **keywords)`; arguments that are not tensors come as they are.
It couples, binds and freezes through the tracer (tracer.Tracer). An operator without a rule freezes every channel that
it touches and is reported by name, so an unknown operator reduces what can be pruned, never correctness. To add a
rule, decorate a function with `rule`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from pruning.structure.block_widths import split_mode
from pruning.trace import labels as lab
from pruning.trace.groups import OUTPUT
from pruning.trace.tracer import Partition, Tracer

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


class Unsupported(Exception):
    """Raised by a rule for a case that it does not handle: the channels are frozen, with this reason."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for ATen overloads, named without the leading 'aten.'."""

    def register(function: Rule) -> Rule:
        RULES.update({f"aten.{name}": function for name in names})
        return function

    return register


def unsupported(tracer: Tracer, node: fx.Node, *args: Any, reason: str = "", **kwargs: Any) -> Any:
    """Freeze the channels of all inputs; the outputs are unlabelled."""
    touched = [item for item in _tensors((args, kwargs)) if lab.atoms_in(item).numel()]
    if touched:
        name = str(node.target).removeprefix("aten.")
        tracer.unsupported.add(f"{name} ({reason})" if reason else name)
        for item in touched:
            tracer.freeze(item, f"operator {name} has no rule" if not reason else f"{name}: {reason}")
    macs = _fixed_macs(node)
    if macs:
        tracer.count(node, macs)
    return outputs_unlabelled(node)


def _fixed_macs(node: fx.Node) -> int:
    """Return the MACs of a product without a rule: its channels are frozen, so they cannot change."""
    shapes: list[tuple[int, ...]] = [tuple(a.meta["val"].shape) for a in node.all_input_nodes if _is_tensor(a)]
    name = str(node.target).removeprefix("aten.").partition(".")[0]
    if name in ("linear", "matmul", "bmm", "mm"):
        return prod(_shape(node)) * shapes[0][-1]
    if name in ("conv1d", "conv2d", "conv3d"):
        return prod(_shape(node)) * prod(shapes[1][1:])
    if name == "conv_transpose2d":
        return prod(shapes[0]) * prod(shapes[1][1:])
    return 0


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), Tensor)


def outputs_unlabelled(node: fx.Node) -> Any:
    """Return zero labels in the shape of the node's value (tensors, tuples of tensors, or None)."""
    value = node.meta.get("val")
    if isinstance(value, Tensor):
        return lab.unlabelled(value.shape)
    if isinstance(value, (tuple, list)):
        return tuple(lab.unlabelled(v.shape) if isinstance(v, Tensor) else None for v in value)
    return None


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [found for item in value for found in _tensors(item)]
    return []


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _name(tracer: Tracer, node: fx.Node, position: int) -> str | None:
    """Return the state-dict name of the parameter given as argument `position`, None if there is none."""
    argument = node.args[position] if position < len(node.args) else None
    return tracer.parameters.get(argument.name) if isinstance(argument, fx.Node) else None


def _vector(labels: Tensor, dim: int) -> Tensor:
    vector = lab.flatten_constant(labels, dim)
    if vector is None:
        raise Unsupported("channels lie along more than one dimension")
    return vector


# --------------------------------------------------------------------------- layers


@rule("conv1d.default", "conv2d.default", "conv3d.default", "conv1d.padding", "conv2d.padding")
def convolution(tracer: Tracer, node: fx.Node, x: Tensor, weight: Tensor, *rest: Any, **_: Any) -> Tensor:
    """Label a weight (out, in / groups, k...): new output channels, or the input's own for a depthwise convolution."""
    return _convolve(tracer, node, x, weight, groups=int(rest[4]) if len(rest) > 4 else 1, transposed=False)


@rule("conv_transpose2d.input")
def transposed_convolution(tracer: Tracer, node: fx.Node, x: Tensor, weight: Tensor, *rest: Any, **_: Any) -> Tensor:
    """Label a weight (in, out / groups, k...)."""
    return _convolve(tracer, node, x, weight, groups=int(rest[4]) if len(rest) > 4 else 1, transposed=True)


def _convolve(tracer: Tracer, node: fx.Node, x: Tensor, weight: Tensor, groups: int, transposed: bool) -> Tensor:
    name, bias = _name(tracer, node, 1), _name(tracer, node, 2)
    shape = _shape(node)
    if name is None:
        raise Unsupported("its weight is not a parameter")
    out_dim, in_dim = (1, 0) if transposed else (0, 1)
    source = lab.flatten_constant(x, 1)
    if source is None:  # channels also lie along places (the distribution that a box head decodes)
        tracer.freeze(x, "convolution over channels laid out as places")
        source = tracer.fresh(x.shape[1])
        tracer.freeze(source, "convolution over channels laid out as places")
    if groups == 1:
        tracer.bind(name, in_dim, source)
        out = tracer.fresh(weight.shape[out_dim])
    elif groups == source.numel() and not transposed:
        out = source.repeat_interleave(weight.shape[0] // groups)
    else:
        out = _grouped(tracer, name, source, weight, groups, transposed)
    tracer.bind(name, out_dim, out)
    if bias is not None:
        tracer.bind(bias, 0, out)
    _produced(tracer, (name, out_dim), shape[-1])
    _count(tracer, node, name, x, shape, weight, transposed)
    return lab.spread(out, 1, shape)


def _grouped(tracer: Tracer, name: str, source: Tensor, weight: Tensor, groups: int, transposed: bool) -> Tensor:
    """Label 1 < groups < channels: every group keeps the channels at the same places, so that all stay equally wide.

    A unit is a place in all groups, and the weight's second dimension counts places.
    """
    if transposed:
        raise Unsupported("grouped transposed convolution")
    tracer.bind(name, 1, _in_step(tracer, source, groups))
    out = tracer.fresh(weight.shape[0])
    _in_step(tracer, out, groups)
    return out


def _in_step(tracer: Tracer, vector: Tensor, groups: int) -> Tensor:
    """Couple the channels at the same place of every group; return those of the first group."""
    places = vector.reshape(groups, -1)
    for group in places[1:]:
        tracer.couple(places[0], group)
    return places[0]


def _count(
    tracer: Tracer,
    node: fx.Node,
    name: str,
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor,
    transposed: bool,
) -> None:
    out_dim, in_dim = (1, 0) if transposed else (0, 1)
    window = prod(weight.shape[2:])
    # A transposed convolution multiplies at every position of its input, any other at every position of its output.
    positions = shape[0] * window * prod((x.shape if transposed else shape)[2:])
    written = shape[0] * prod(shape[2:])
    if (name, in_dim) in tracer.slots:
        tracer.count(node, positions, (name, out_dim), (name, in_dim), positions=written)
    else:  # one channel each
        tracer.count(node, positions * weight.shape[1], (name, 0), positions=written)


def _produced(tracer: Tracer, output: tuple[str, int], extent: int) -> None:
    """Record the order of the layers and the width in pixels of each one's feature map."""
    layer = output[0].rpartition(".")[0]
    tracer.producers.setdefault(layer, (output, int(extent)))


@rule("linear.default")
def linear(tracer: Tracer, node: fx.Node, x: Tensor, weight: Tensor, *_: Any) -> Tensor:
    """Label a weight (out, in), applied to the last dimension."""
    name, bias = _name(tracer, node, 1), _name(tracer, node, 2)
    if name is None:
        raise Unsupported("its weight is not a parameter")
    shape = _shape(node)
    tracer.bind(name, 1, _vector(x, x.dim() - 1))
    out = tracer.fresh(weight.shape[0])
    tracer.bind(name, 0, out)
    if bias is not None:
        tracer.bind(bias, 0, out)
    _produced(tracer, (name, 0), 1)
    tracer.count(node, prod(shape[:-1]), (name, 0), (name, 1), positions=prod(shape[:-1]))
    return lab.spread(out, len(shape) - 1, shape)


@rule("batch_norm.default")
def batch_norm(tracer: Tracer, node: fx.Node, x: Tensor, *_: Any) -> Tensor:
    """Bind scale, shift and both running statistics to the channels of dimension 1."""
    vector = _vector(x, 1)
    for position in range(1, 5):
        name = _name(tracer, node, position)
        if name is not None:
            tracer.bind(name, 0, vector)
    return lab.spread(vector, 1, tuple(x.shape))


@rule("prelu.default")
def prelu(tracer: Tracer, node: fx.Node, x: Tensor, slope: Tensor, *_: Any) -> Tensor:
    """Bind the slopes, one for all channels of dimension 1 or one for each."""
    name = _name(tracer, node, 1)
    if slope.numel() == 1:
        return x
    if name is None:
        raise Unsupported("its slopes are not a parameter")
    tracer.bind(name, 0, _vector(x, 1))
    return x


@rule("layer_norm.default", "group_norm.default", "instance_norm.default")
def norm_across_channels(tracer: Tracer, node: fx.Node, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """Freeze the channels: the statistics run over all of them."""
    tracer.freeze(x, "normalisation over channels")
    return x


# --------------------------------------------------------------------------- elementwise


@rule(
    *(f"{name}.default" for name in ("silu", "silu_", "relu", "relu_", "sigmoid", "sigmoid_", "tanh", "gelu")),
    *(f"{name}.default" for name in ("hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "leaky_relu")),
    *(f"{name}.default" for name in ("leaky_relu_", "elu", "mish", "relu6", "relu6_", "hardtanh", "hardtanh_")),
    *(f"{name}.default" for name in ("softplus", "clamp", "clamp_", "clamp_min", "exp", "log", "sqrt", "rsqrt")),
    *(f"{name}.default" for name in ("elu_", "selu", "selu_", "celu", "celu_", "mish_", "rrelu", "rrelu_")),
    *(f"{name}.default" for name in ("log_sigmoid", "softshrink", "hardshrink", "threshold", "threshold_", "erf")),
    *(f"{name}.default" for name in ("expm1", "log1p", "log2", "exp2", "reciprocal", "sign", "floor", "ceil", "round")),
    *(f"{name}.default" for name in ("tan", "atan", "sinh", "cosh", "asinh")),
    *(f"{name}.default" for name in ("neg", "abs", "sin", "cos", "dropout", "dropout_", "contiguous", "clone")),
    *(f"{name}.default" for name in ("detach", "detach_", "alias", "type_as", "lift_fresh_copy", "square")),
    *("to.dtype", "to.device", "to.dtype_layout", "_to_copy.default", "pow.Tensor_Scalar", "float.default"),
    *("feature_dropout.default", "add.Scalar", "mul.Scalar", "sub.Scalar", "div.Scalar", "add_.Scalar"),
    *("mul_.Scalar", "rsub.Scalar", "nan_to_num.default"),
)
def same_channels(tracer: Tracer, node: fx.Node, x: Any, *_: Any, **__: Any) -> Any:
    """Keep the labels: each output element depends on the input element at its own position."""
    return x


@rule(
    *(f"{op}.Tensor" for op in ("add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_", "maximum", "minimum")),
    *(f"{op}.default" for op in ("maximum", "minimum")),
    "pow.Tensor_Tensor",
)
def meet(tracer: Tracer, node: fx.Node, a: Any, b: Any, *_: Any, **__: Any) -> Any:
    """Couple the channels of two tensors that are combined elementwise, broadcast."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        return a if isinstance(a, Tensor) else b
    shape = _shape(node)
    for labelled, other in ((a, b), (b, a)):
        _fixed_operand(tracer, node, labelled, other)
    small_a, small_b = lab.broadcast(lab.compress(a), lab.compress(b))
    tracer.couple(small_a, small_b)
    return _regrow(torch.where(small_a != 0, small_a, small_b), shape)


def _fixed_operand(tracer: Tracer, node: fx.Node, labelled: Tensor, other: Tensor) -> None:
    """Freeze the channels that a constant with per-channel values is combined with: it cannot be shortened."""
    if bool((lab.compress(other) != 0).any()) or not bool((lab.compress(labelled) != 0).any()):
        return
    offset = labelled.dim() - other.dim()
    for dim in range(labelled.dim()):
        if dim >= offset and other.shape[dim - offset] > 1 and lab.varies(labelled, dim):
            tracer.freeze(labelled, f"{str(node.target).removeprefix('aten.')} with a fixed vector")
            return


def _regrow(small: Tensor, shape: Sequence[int]) -> Tensor:
    return small.expand(tuple(shape))


# --------------------------------------------------------------------------- places move, channels stay whole


@rule(
    *(f"{name}.default" for name in ("permute", "t", "expand", "squeeze", "expand_as", "repeat")),
    *("transpose.int", "unsqueeze.default", "squeeze.dim", "squeeze.dims", "flip.default", "roll.default"),
)
def move(tracer: Tracer, node: fx.Node, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Run the operator itself on the labels."""
    return node.target(x, *args, **kwargs)  # type: ignore[operator]


@rule(
    "max_pool2d.default", "avg_pool2d.default", "adaptive_avg_pool2d.default", "adaptive_max_pool2d.default",
    "upsample_nearest2d.vec", "upsample_bilinear2d.vec", "upsample_nearest2d.default", "pad.default",
    "constant_pad_nd.default", "upsample_bicubic2d.vec", "max_pool2d_with_indices.default",
)  # fmt: skip
def resample(tracer: Tracer, node: fx.Node, x: Tensor, *_: Any, **__: Any) -> Any:
    """Keep the labels of dimension 1 through pooling, resizing or padding of the map."""
    shape = _shape(node)
    if shape[1] != x.shape[1]:
        raise Unsupported("the number of channels changes")
    return lab.spread(_vector(x, 1), 1, shape)


@rule("mean.dim", "sum.dim_IntList", "amax.default", "amin.default", "logsumexp.default")
def reduce(tracer: Tracer, node: fx.Node, x: Tensor, dims: Any, keepdim: bool = False, **_: Any) -> Tensor:
    """Keep channels through a reduction over positions; freeze those that are reduced."""
    dims = [dims] if isinstance(dims, int) else list(dims)
    if any(lab.varies(x, dim) for dim in dims):
        raise Unsupported("it reduces over channels")
    for dim in sorted((d % x.dim() for d in dims), reverse=True):
        x = x.narrow(dim, 0, 1) if keepdim else x.select(dim, 0)
    return x


@rule("max.dim", "min.dim", "topk.default", "sort.default")
def select_values(tracer: Tracer, node: fx.Node, x: Tensor, *args: Any, **__: Any) -> Any:
    """Freeze the channels of a data-dependent selection, which only occurs on outputs."""
    tracer.freeze(x, OUTPUT)
    return outputs_unlabelled(node)


@rule(
    "gather.default", "copy_.default", "index.Tensor", "bitwise_and.Tensor", "remainder.Scalar",
    "floor_divide.default", "slice_scatter.default", "select_scatter.default", "index_put_.default",
)  # fmt: skip
def decoding(tracer: Tracer, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
    """Freeze everything that reaches the decoding after the heads."""
    for item in _tensors((args, kwargs)):
        tracer.freeze(item, f"operator {str(node.target).removeprefix('aten.')}")
    return outputs_unlabelled(node)


@rule("softmax.int", "_softmax.default", "log_softmax.int")
def softmax(tracer: Tracer, node: fx.Node, x: Tensor, dim: int, *_: Any, **__: Any) -> Tensor:
    """Keep channels if it runs along positions; freeze them if it normalises over channels."""
    if lab.varies(x, dim):
        tracer.freeze(x, "softmax over channels")
    return x


# --------------------------------------------------------------------------- channels are cut and joined


@rule("cat.default", "concat.default")
def concatenate(tracer: Tracer, node: fx.Node, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Place the channels of several tensors side by side."""
    tensors = [t for t in tensors if not (t.dim() == 1 and t.shape[0] == 0)]
    return _join(tensors, dim % tensors[0].dim())


@rule("stack.default")
def stack(tracer: Tracer, node: fx.Node, tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Stack the labels along a new dimension."""
    dim %= tensors[0].dim() + 1
    return _join([t.unsqueeze(dim) for t in tensors], dim)


def _join(tensors: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate labels, leaving dimensions unexpanded in which no tensor varies."""
    shape = list(tensors[0].shape)
    shape[dim] = sum(t.shape[dim] for t in tensors)
    lean = [d for d in range(len(shape)) if d != dim and all(t.stride(d) == 0 or t.shape[d] == 1 for t in tensors)]
    cut = list(tensors)
    for d in lean:
        cut = [t.narrow(d, 0, 1) for t in cut]
    return _regrow(torch.cat(cut, dim), shape)


@rule("chunk.default", "split.Tensor", "split_with_sizes.default", "unbind.int", "tensor_split.sections")
def cut(tracer: Tracer, node: fx.Node, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Split along a dimension. Equally long pieces of a channel dimension must keep equal counts."""
    pieces = tuple(node.target(x, *args, **kwargs))  # type: ignore[operator]
    dim = _cut_dim(node, args, kwargs) % x.dim()
    if not lab.varies(x, dim):
        return pieces
    if str(node.target) != "aten.chunk.default" and split_mode(tracer.owner(node)[1]) is None:
        tracer.freeze(x, f"split of fixed sizes in {tracer.owner(node)[1] or 'the model'}")
        return pieces
    _tie_pieces(tracer, node, pieces)
    return pieces


def _cut_dim(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    position = 0 if "unbind" in str(node.target) else 1
    if "dim" in kwargs:
        return int(kwargs["dim"])
    return int(args[position]) if len(args) > position else 0


def _tie_pieces(tracer: Tracer, node: fx.Node, pieces: Sequence[Tensor]) -> None:
    by_length: dict[tuple[int, ...], list[Tensor]] = {}
    for piece in pieces:
        by_length.setdefault(tuple(piece.shape), []).append(lab.atoms_in(piece))
    for same in by_length.values():
        tracer.partitions.append(Partition(tuple(same), f"{tracer.owner(node)[0]} ({node.name})"))


@rule("slice.Tensor")
def take_range(tracer: Tracer, node: fx.Node, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Slice a range of positions; a range of channels has fixed bounds, so these channels are frozen."""
    dim = int(args[0]) if args else 0
    part: Tensor = node.target(x, *args, **kwargs)  # type: ignore[operator]
    if part.shape[dim] != x.shape[dim] and lab.varies(x, dim):
        tracer.freeze(x, "slice of channels with fixed ends")
    return part


@rule("select.int")
def take_one(tracer: Tracer, node: fx.Node, x: Tensor, dim: int, index: int) -> Tensor:
    """Select one index of a dimension."""
    if lab.varies(x, dim):
        tracer.freeze(x, "a channel chosen by number")
    return x.select(dim, index)


# --------------------------------------------------------------------------- channels change shape


@rule("view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int")
def reshape(tracer: Tracer, node: fx.Node, x: Tensor, *args: Any, **_: Any) -> Tensor:
    """Merge dimensions freely; splitting a channel dimension (attention heads) needs a known block."""
    shape = _shape(node)
    for start, dims in _split_dims(tuple(x.shape), shape):
        if lab.varies(x, start):
            _split_channels(tracer, node, x.reshape(shape), dims)
    return x.reshape(shape)


def _split_dims(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
    """Return the dimensions of `before` that become several (> 1) of `after`: [(dim, dims of after)]."""
    found = []
    i = j = 0
    while i < len(before) and j < len(after):
        left, right, i0, j0 = before[i], after[j], i, j
        while left != right:
            if left < right:
                i += 1
                left *= before[i]
            else:
                j += 1
                right *= after[j]
        i, j = i + 1, j + 1
        wide = tuple(d for d in range(j0, j) if after[d] > 1)
        if len(wide) > 1:
            found += [(d, wide) for d in range(i0, i) if before[d] > 1]
    return found


def _split_channels(tracer: Tracer, node: fx.Node, shaped: Tensor, dims: tuple[int, ...]) -> None:
    path, cls = tracer.owner(node)
    mode = split_mode(cls)
    if mode is None or len(dims) != 2:
        tracer.freeze(shaped, f"channels reshaped in {cls or 'the model'}")
        return
    pieces = shaped.unbind(dims[0])
    separate = tuple(lab.atoms_in(piece) for piece in pieces)
    tracer.partitions.append(Partition(separate, f"{path} ({node.name})", separate=True, block=path))


@rule("matmul.default", "bmm.default", "mm.default")
def matmul(tracer: Tracer, node: fx.Node, a: Tensor, b: Tensor) -> Tensor:
    """Multiply (..., n, k) @ (..., k, m): channels along k are contracted and coupled; those along n and m stay."""
    shape = _shape(node)
    n, k = a.shape[-2:]
    along_a = a.select(-2, 0) if not lab.varies(a, -2) else None  # (..., k)
    along_b = b.select(-1, 0) if not lab.varies(b, -1) else None
    contract_a, contract_b = lab.varies(a, -1), lab.varies(b, -2)
    if (contract_a and along_a is None) or (contract_b and along_b is None):
        raise Unsupported("channels along rows and columns at once")
    if contract_a != contract_b:
        raise Unsupported("channels contracted with a fixed vector")
    if contract_a and along_a is not None and along_b is not None:
        tracer.couple(along_a, along_b)
        tracer.count(node, n * shape[-1], _contracted(tracer, node, along_a))
        return lab.unlabelled(shape)
    rows, columns = a.select(-1, 0).unsqueeze(-1), b.select(-2, 0).unsqueeze(-2)
    _matmul_cost(tracer, node, rows, columns, k, shape)
    tracer.couple(rows, columns)
    return _regrow(torch.where(rows != 0, rows, columns), shape)


def _matmul_cost(tracer: Tracer, node: fx.Node, rows: Tensor, columns: Tensor, k: int, shape: tuple[int, ...]) -> None:
    if bool((rows != 0).any()):
        tracer.count(node, k * shape[-1], _contracted(tracer, node, rows))
    elif bool((columns != 0).any()):
        tracer.count(node, k * shape[-2], _contracted(tracer, node, columns))
    else:
        tracer.count(node, k * prod(shape))


def _contracted(tracer: Tracer, node: fx.Node, labels: Tensor) -> tuple[str, int]:
    """Return a separate slot for the channels that a matrix product contracts."""
    slot = (f"product:{node.name}", 0)
    if tracer.counting:
        tracer.bind(*slot, labels.reshape(-1))
    return slot


# --------------------------------------------------------------------------- no channels at all


@rule(
    "arange.default", "arange.start", "arange.start_step", "new_full.default", "new_zeros.default", "full.default",
    "zeros.default", "ones.default", "zeros_like.default", "ones_like.default", "item.default", "sym_size.int",
    "_assert_tensor_metadata.default", "full_like.default", "new_ones.default", "empty.memory_format",
)  # fmt: skip
def constant(tracer: Tracer, node: fx.Node, *_: Any, **__: Any) -> Any:
    """Return unlabelled values that depend on sizes, not on features."""
    return outputs_unlabelled(node)


@rule(
    "meshgrid.indexing",
    "meshgrid.default",
    "gt.Scalar",
    "lt.Scalar",
    "ge.Scalar",
    "where.self",
    "logical_not.default",
)
def grid(tracer: Tracer, node: fx.Node, *args: Any, **kwargs: Any) -> Any:
    """Return unlabelled coordinates and conditions; freeze channels that meet them, which no known model does."""
    for item in _tensors((args, kwargs)):
        tracer.freeze(item, f"operator {str(node.target).removeprefix('aten.')}")
    return outputs_unlabelled(node)


def get_item(tracer: Tracer, node: fx.Node, values: Sequence[Any], index: int) -> Any:
    """Return one of several outputs."""
    return values[index]


RULES["<built-in function getitem>"] = get_item
