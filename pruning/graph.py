"""trace(model, example) -> ChannelGraph: follow every channel of a model through one exported graph.

The model is exported once with `torch.export`; channel labels (labels.py) are pushed through the graph by one small
rule per operator (operators.py). Two channels that meet in an addition, a product or a contraction are *coupled*:
the connected components of those meetings are the smallest sets of weight slices that can be removed together
(dependency graph, Fang et al., CVPR 2023, arXiv 2301.12900; found here on elements, so that chunk, split, view,
permute and attention need no case of their own).
"""

from __future__ import annotations

import copy
import hashlib
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from pruning import labels as lab
from pruning.cost import Cost, CostModel, Product
from pruning.depth import RemovableBlock, removable_blocks
from pruning.errors import TraceError
from pruning.groups import INPUT, OUTPUT, Group, GroupTable, Partition, Slot, build_groups
from pruning.importance import Scores, score
from pruning.operators import RULES, Unsupported, unsupported
from pruning.plan import Plan, Ranking, make_plan

if TYPE_CHECKING:
    from pruning.surgery import Mould


@dataclass
class Tracer:
    """What the operator rules write into while they walk the graph."""

    modules: Mapping[str, nn.Module]
    first_names: Mapping[str, str] = field(default_factory=dict)  # of tensors: any name -> the one that is used
    size: int = 1  # atom 0 is "no channel"
    meetings: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    slots: dict[Slot, Tensor] = field(default_factory=dict)
    frozen: list[tuple[str, Tensor]] = field(default_factory=list)
    partitions: list[Partition] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    unsupported: set[str] = field(default_factory=set)
    parameters: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    producers: dict[str, tuple[Slot, int]] = field(default_factory=dict)
    counting: bool = True
    width: int = 1  # of the input, in pixels

    def fresh(self, count: int) -> Tensor:
        """`count` new atoms."""
        atoms = torch.arange(self.size, self.size + count, dtype=torch.int32)
        self.size += count
        return atoms

    def couple(self, first: Tensor, second: Tensor) -> None:
        """Elementwise: these atoms go together (0 couples with nothing)."""
        first, second = lab.broadcast(first, second)
        both = (first != 0) & (second != 0) & (first != second)
        if bool(both.any()):
            self.meetings.append((first[both], second[both]))

    def bind(self, name: str, dim: int, vector: Tensor) -> None:
        """The indices of dimension `dim` of tensor `name` are these atoms. A shared weight couples both of its uses."""
        known = self.slots.setdefault((name, dim), vector)
        if known is not vector:
            self.couple(known, vector)

    def count(self, node: fx.Node, factor: int, *slots: Slot, positions: int = 0) -> None:
        """Add a multiply-accumulate term of the module that ran `node`; see `Product`."""
        if self.counting:
            self.products.append(Product(factor, slots, f"{self.owner(node)[0]}.", positions))

    def freeze(self, labels: Tensor, reason: str) -> None:
        """None of these channels may be removed."""
        atoms = lab.atoms_in(labels)
        if atoms.numel():
            self.frozen.append((reason, atoms))

    def owner(self, node: fx.Node) -> tuple[str, str]:
        """(path, class name) of the module whose forward ran this node."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        path, cls = stack[-1] if stack else ("", "")
        name = cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
        return strip_root(str(path)), name.rsplit(".", 1)[-1]


def strip_root(path: str) -> str:
    """Path of a module of the model, from its path inside the exported wrapper.

    A model that iterates over `self.model[:-1]`, as RT-DETR does, has the slice in its paths; it keeps the numbers.
    """
    if path == ROOT:
        return ""
    path = path[len(ROOT) + 1 :] if path.startswith(f"{ROOT}.") else path
    return re.sub(r"slice\(None, [^)]*\)\.", "", path)


ROOT = "traced"


class _TrueOutputs(nn.Module):
    """Runs the model and drops what only passes features through (Ultralytics heads return them as 'feats')."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.traced = model

    def forward(self, x: Tensor) -> Any:
        return _without_features(self.traced(x))


def _without_features(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_features(item) for key, item in value.items() if key != "feats"}
    if isinstance(value, (list, tuple)):
        return [_without_features(item) for item in value]
    return value


@dataclass(frozen=True)
class ChannelGraph:
    """The channels of a model: which ones are coupled, what each costs. Plain data; pickles without the model."""

    groups: tuple[Group, ...]
    table: GroupTable = field(repr=False)
    costs: CostModel = field(repr=False)
    unsupported: tuple[str, ...]
    example_shape: tuple[int, ...]
    fingerprint: str
    blocks: tuple[RemovableBlock, ...] = ()
    model: nn.Module | None = field(default=None, repr=False, compare=False)
    moulds: list[Mould] = field(default_factory=list, repr=False, compare=False)  # surgery's, at most one

    @property
    def free(self) -> tuple[Group, ...]:
        """The groups that can be pruned."""
        return tuple(group for group in self.groups if group.frozen is None)

    @property
    def attention(self) -> dict[str, int]:
        """Attention blocks that can lose whole heads, and how many they have."""
        return {block: len(members) for block, members in self.table.heads.items()}

    def stages(self) -> dict[str, tuple[str, ...]]:
        """Free groups by stage of the network (a run of layers at one resolution; the head is its own), in order."""
        found: dict[str, list[str]] = {}
        for group in self.free:
            found.setdefault(group.stage, []).append(group.name)
        return {stage: tuple(names) for stage, names in found.items()}

    def score(self, model: nn.Module, importance: str = "l2") -> Scores:
        """Scores of every removable channel of `model` by a data-free criterion (importance.py)."""
        return score(self.table, model, importance)

    def plan(
        self,
        ratios: float | Mapping[str, float],
        importance: str | Scores = "l2",
        round_to: int = 1,
        min_width: int = 1,
        ranking: Ranking = "local",
        removed: Sequence[str] = (),
        heads: Mapping[str, int] | None = None,
    ) -> Plan:
        """Ratios per group (or one for all) -> the channels to keep.

        A name may be a group, a layer or a block (all groups below it). `importance` names a data-free
        criterion, read from the traced model, or gives scores. `ranking="global"` lets the channels of all groups
        compete for one ratio. `removed` names blocks (of `self.blocks`) that go whole; `heads` how many
        heads an attention block (of `self.attention`) keeps. Raises PlanError.
        """
        scores = importance if isinstance(importance, Scores) else self._own_scores(importance)
        return make_plan(
            self, ratios, scores, round_to=round_to, min_width=min_width, ranking=ranking, removed=removed, heads=heads
        )

    def _own_scores(self, importance: str) -> Scores:
        if self.model is None:
            raise TraceError("this graph was loaded without its model: pass scores, graph.score(model, 'l2')")
        return self.score(self.model, importance)

    def cost(self) -> Cost:
        """Cost of the unpruned model."""
        return self.costs.of_widths(self.table.full_widths())

    def costs_without(self, removed: Sequence[str]) -> CostModel:
        """Costs of the model without the named blocks."""
        readers = {block.path: block.reader for block in self.blocks}
        return self.costs.without({path: readers[path] for path in removed}, self.table) if removed else self.costs

    def free_mac_share(self) -> float:
        """Share of the model's MACs that lie in layers which some free group can shrink, 0 to 1."""
        free = np.array([group.frozen is None for group in self.groups])
        return self.costs.share_touching(free, self.table.full_widths())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "model": None, "moulds": []}


def trace(model: nn.Module, example: Tensor) -> ChannelGraph:
    """Export `model` on `example` (shape (1, C, H, W)) and find its coupled channels. The model is not changed.

    Raises TraceError when torch.export cannot follow the model. Operators without a rule freeze the channels that
    they touch and are listed in `ChannelGraph.unsupported`.
    """
    working = copy.deepcopy(model).eval()
    tracer = Tracer(dict(working.named_modules()), _first_names(working))
    with torch.no_grad():
        _walk(tracer, _export(working, example))
        if _unseen(tracer, working):  # branches that only training runs (auxiliary and segmentation losses)
            _walk_training(tracer, working, example)
        _freeze_unseen(tracer, working)
    groups, table = build_groups(tracer, working)
    return ChannelGraph(
        groups=groups,
        table=table,
        costs=CostModel.build(tracer.products, table, working),
        unsupported=tuple(sorted(tracer.unsupported)),
        example_shape=tuple(example.shape),
        fingerprint=fingerprint(working),
        blocks=removable_blocks(working),
        model=model,
    )


def _first_names(model: nn.Module) -> dict[str, str]:
    """Every name of every tensor -> its first: a tied weight has several, and the export may choose any."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def fingerprint(model: nn.Module) -> str:
    """A short hash of names and shapes of all tensors: what a plan fits."""
    text = ";".join(f"{name}{tuple(value.shape)}" for name, value in _tensors(model))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, then buffers, shared ones once: what named_parameters and named_buffers yield, in one quick walk."""
    modules: dict[nn.Module, str] = {}
    _collect(model, "", modules)
    for tree in ("_parameters", "_buffers"):
        seen: set[int] = set()
        for module, prefix in modules.items():
            for name, value in module.__dict__[tree].items():
                if value is not None and id(value) not in seen:
                    seen.add(id(value))
                    yield prefix + name, value


def _collect(module: nn.Module, prefix: str, found: dict[nn.Module, str]) -> None:
    found[module] = prefix
    for name, child in module._modules.items():
        if child is not None and child not in found:
            _collect(child, f"{prefix}{name}.", found)


def _export(model: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # assigned anchors: the exported copy is thrown away
            return torch.export.export(_TrueOutputs(model), (example,), strict=False)
    except Exception as error:  # torch.export raises dozens of types; the message is what helps
        first = str(error).strip().splitlines()
        detail = first[0] if first else type(error).__name__
        raise TraceError(f"torch.export could not follow {type(model).__name__}: {detail}") from error


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
    """A layer that no trace reached may still read a traced feature: its input is unknown, its output is left alone."""
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
    """A vector used outside a layer (a layer scale, a channel weight) has channels of its own."""
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
