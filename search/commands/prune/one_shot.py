"""One-shot pruning of one model without a search, by a ratio or a plan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field

from objectives.held_folder import held_folder
from search.config.overrides import (
    Count,
    Counts,
    File,
    InputSize,
    Names,
    Network,
    Order,
    Place,
    Share,
    Shares,
    Word,
    one_of,
    trained_size,
)
from search.errors import ConfigError
from search.run_folder.atomic import write_atomic
from search.workers.run_isolated import run_isolated

if TYPE_CHECKING:
    from torch import nn

    from pruning import Plan

_OF_A_RATIO = ("ratio", "ratios", "groups", "imgsz", "round_to", "importance", "ranking", "removed", "heads")


class OneShotPruning(Order):
    """Arguments of `paretoprune prune`: a ratio and how to distribute it, ratios by name, or an existing plan."""

    example = "paretoprune prune model=best.pt ratio=0.3, or ratios=ratios.yaml, or plan=plan.json"
    lacking = "model= and ratio= (or ratios=, or plan=) are needed"

    model: Network
    plan: File | None = None
    ratio: Share = 0.0
    ratios: Shares = Field(default_factory=dict)
    imgsz: InputSize = Field(default_factory=trained_size)
    round_to: Count = 8
    importance: Word = "l2"
    ranking: Annotated[Literal["local", "global"], one_of("local", "global")] = "local"
    removed: Names = ()
    heads: Counts = Field(default_factory=dict)
    groups: Names = ()
    out: Place | None = None

    @classmethod
    def from_keys(cls, keys: Mapping[str, Any], **given: Any) -> Self:
        """Parse keys as `Order.from_keys`; a plan excludes all others."""
        order = super().from_keys(keys, **given)
        settled = next((key for key in keys if key in _OF_A_RATIO), None)
        if order.plan is None and not {"ratio", "ratios"} & keys.keys():
            raise ConfigError(cls.lacking, expected=cls.example)
        rest = next((key for key in ("ratio", "groups") if key in keys), None)
        if order.ratios and order.plan is None and rest:
            raise ConfigError(f"ratios= names what is pruned, so {rest}= is not allowed", expected=cls.example)
        if order.plan is not None and settled:
            raise ConfigError(f"plan= fixes everything, so {settled}= is not allowed", expected=cls.example)
        return order

    @property
    def folder(self) -> Path:
        """Folder of pruned.pt and plan.json."""
        name = self.plan.stem if self.plan is not None else "ratios" if self.ratios else f"{self.ratio:g}"
        return self.out or Path(f"{self.model.stem}-pruned-{name}")


def prune_once(order: OneShotPruning) -> dict[str, Any]:
    """Write pruned.pt and plan.json; return parameters and MACs before and after.

    Raises:
        ConfigError: pruned.pt exists already, or is not writable. PreparationFailed: with the exit code of the
            cause; the folder is unchanged.
    """
    target = order.folder / "pruned.pt"
    if target.exists():
        raise ConfigError(f"{target} exists already", expected="a new folder: out=FOLDER")
    with held_folder("prune") as log:
        facts: dict[str, Any] = run_isolated(prune_in_child, (order,), log, log_stays=False)
    return facts


def prune_in_child(order: OneShotPruning) -> dict[str, Any]:
    """Run `prune_once` in a quiet child process."""
    from search.evaluate.user_task import is_pruned
    from search.evaluate.workload import load_model, save_model
    from search.prepare.preflight import check_sizes

    model = load_model(order.model)
    check_sizes(model, [order.imgsz])
    if is_pruned(model):
        raise ConfigError(
            f"{order.model} is pruned already", where="model=", expected="the network that it was pruned from"
        )
    plan = _made_plan(order, model) if order.plan is None else _given_plan(order.plan, model)
    try:
        small = plan.apply(model)
        run_once(small, plan)
    except (IndexError, KeyError, RuntimeError) as error:
        raise ConfigError(f"the plan does not fit the model: {error}", where=str(order.plan)) from error
    try:
        save_model(small, order.folder / "pruned.pt", paretoprune_plan=plan.to_json())
        write_atomic(order.folder / "plan.json", plan.to_json())
    except OSError as error:
        raise ConfigError(f"cannot write to {order.folder}: {error.strerror}", where="out=") from error
    before, after = plan.graph_on(model).cost(), plan.cost()
    return {
        "model": str(order.folder / "pruned.pt"),
        "base": str(order.model),
        "plan": str(order.folder / "plan.json"),
        "removed": list(plan.removed),
        "params_m": {"before": before.params / 1e6, "after": after.params / 1e6},
        "macs_g": {"before": before.macs / 1e9, "after": after.macs / 1e9},
    }


def run_once(small: nn.Module, plan: Plan) -> None:
    """Run a pruned network once, so that no file is handed over that cannot run; its errors pass through."""
    import torch

    with torch.no_grad():
        small.eval()(torch.zeros(plan.example_shape))


def _made_plan(order: OneShotPruning, model: Any) -> Plan:
    from pruning import trace
    from search.evaluate.workload import example_input
    from search.space import chosen_groups

    graph = trace(model, example_input(model, order.imgsz))
    chosen = chosen_groups(tuple(graph.free), order.groups, "groups=") if order.groups else ()
    return graph.plan(
        order.ratios or ({group.name: order.ratio for group in chosen} if order.groups else order.ratio),
        importance=order.importance,
        round_to=order.round_to,
        ranking=order.ranking,
        removed=order.removed,
        heads=order.heads,
    )


def _given_plan(path: Path, model: Any) -> Plan:
    from pruning import Plan

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", where="plan=", expected="a plan.json") from error
    return Plan.from_json(text).bind(model)
