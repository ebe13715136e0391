"""Export a model and propagate channel labels through its graph, one rule per operator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from pruning.errors import TraceError, first_line
from pruning.trace import labels as lab
from pruning.trace.groups import INPUT, OUTPUT
from pruning.trace.operators import RULES, Unsupported, unsupported
from pruning.trace.tracer import Tracer, strip_root


class _TrueOutputs(nn.Module):
    """Runs the model and drops intermediate features from its outputs (Ultralytics heads return them as 'feats')."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.traced = model

    def forward(self, x: Tensor) -> Any:
        return without_features(self.traced(x))


def without_features(value: Any) -> Any:
    """Drop intermediate features, the entries `feats`, from the outputs of a model."""
    if isinstance(value, dict):
        return {key: without_features(item) for key, item in value.items() if key != "feats"}
    if isinstance(value, (list, tuple)):
        return [without_features(item) for item in value]
    return value


def walked(model: nn.Module, example: Tensor) -> Tracer:
    """Propagate labels through `model`, which is in evaluation mode again afterwards. Raises TraceError."""
    tracer = Tracer(dict(model.named_modules()), _first_names(model))
    with torch.no_grad():
        _walk(tracer, _export(model, example))
        if _unseen(tracer, model):  # branches that only training runs (auxiliary and segmentation losses)
            _walk_training(tracer, model, example)
        _freeze_unseen(tracer, model)
    return tracer


def _first_names(model: nn.Module) -> dict[str, str]:
    """Map every name of every tensor to its first: a tied weight has several, and the export may choose any."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def _export(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # assigned anchors: the exported copy is thrown away
            return torch.export.export(_TrueOutputs(model), (example,), strict=False)
    except Exception as error:  # torch.export raises dozens of types; the message is what helps
        _check_runs(model, example)
        raise TraceError(f"torch.export could not follow {type(model).__name__}: {first_line(error)}") from error


def _check_runs(model: nn.Module, example: Tensor) -> None:
    """Raise TraceError if the network itself does not run, whoever runs it."""
    try:
        model(example)
    except Exception as error:  # the code of any module may raise anything
        raise TraceError(
            f"{type(model).__name__} does not run on an input of {tuple(example.shape)}: {first_line(error)}. If it "
            f"comes from a fork, or from another version of Ultralytics, YOLO(FILE).predict() fails here, too."
        ) from error


def _unseen(tracer: Tracer, model: nn.Module) -> list[str]:
    wide = (name for name, parameter in model.named_parameters() if parameter.numel() > 1)  # a number has no channels
    return [name for name in wide if not any((name, dim) in tracer.slots for dim in (0, 1))]


def _walk_training(tracer: Tracer, model: nn.Module, example: Tensor) -> None:
    tracer.counting = False  # MACs are those of inference
    batch = torch.cat([example, example])  # batch norm refuses a batch of one value per channel
    try:
        model.train()
        _walk(tracer, _export(model, batch))
    except TraceError:
        return  # what only training uses stays unseen and is frozen below
    finally:
        model.eval()


def _freeze_unseen(tracer: Tracer, model: nn.Module) -> None:
    """Freeze layers that no trace reached: they may read a traced feature, and their inputs are unknown."""
    for name in _unseen(tracer, model):
        tracer.unsupported.add(f"untraced parameter {name}")


def _walk(tracer: Tracer, program: torch.export.ExportedProgram) -> None:
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    values: dict[fx.Node, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            values[node] = _placeholder(tracer, node, names, set(signature.user_inputs))
        elif node.op == "call_function":
            values[node] = _call(tracer, node, values)
        elif node.op == "output":
            for leaf in node.all_input_nodes:
                if isinstance(values.get(leaf), Tensor):
                    tracer.freeze(values[leaf], OUTPUT)


def _placeholder(tracer: Tracer, node: fx.Node, names: Mapping[str, str], inputs: set[str]) -> Any:
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return None
    shape = tuple(value.shape)
    if node.name in names:
        name = strip_root(names[node.name])
        name = tracer.first_names.get(name, name)
        tracer.parameters[node.name] = name
        tracer.shapes[name] = shape
        return _loose_parameter(tracer, node, name, shape)
    if node.name in inputs and len(shape) > 1:
        atoms = tracer.fresh(shape[1])
        tracer.width = shape[-1]
        tracer.frozen.append((INPUT, atoms))
        return lab.spread(atoms, 1, shape)
    return lab.unlabelled(shape)


LAYER_OPERATORS = ("aten.conv", "aten.batch_norm", "aten.linear", "aten.layer_norm", "aten.group_norm")


def _loose_parameter(tracer: Tracer, node: fx.Node, name: str, shape: tuple[int, ...]) -> Tensor:
    """Label a vector used outside a layer (a layer scale, a channel weight), which has channels of its own."""
    wide = [dim for dim, length in enumerate(shape) if length > 1]
    in_layers = all(str(user.target).startswith(LAYER_OPERATORS) for user in node.users)
    if in_layers or len(wide) != 1:
        return lab.unlabelled(shape)
    atoms = tracer.fresh(shape[wide[0]])
    tracer.bind(name, wide[0], atoms)
    return lab.spread(atoms, wide[0], shape)


def _call(tracer: Tracer, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    args = fx.node.map_arg(node.args, lambda n: values[n])
    kwargs = fx.node.map_arg(node.kwargs, lambda n: values[n])
    rule: Callable[..., Any] = RULES.get(str(node.target), unsupported)
    try:
        return rule(tracer, node, *args, **kwargs)
    except Unsupported as why:
        return unsupported(tracer, node, *args, reason=str(why), **kwargs)
