"""Terminal output of `paretoprune check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.present.terminal.columns import plain_table
from search.results.snapshot_reader import duration


def render_check(facts: Mapping[str, Any], *, with_groups: bool = False) -> RenderableType:
    """Render budgets, time, reachable figures, what can be pruned and the environment, below 80 columns.

    `with_groups` adds the table of what has a ratio of its own, which is as long as the network.
    """
    parts: list[RenderableType] = [*_budgets(facts["budgets"]), Text(_time(facts["time"])), Text()]
    parts += [_reach(facts["reach"]), Text(), Text("\n".join(_space(facts)))]
    parts += [Text(line, style="yellow") for line in facts["left_out"]]
    parts += [Text(), _environment(facts["environment"])]
    count = len(facts["dimensions"])
    parts += [Text(), _dimensions(facts) if with_groups else Text(f"{count} ratios are searched; --groups lists them")]
    return Group(*parts)


def _budgets(budgets: Mapping[str, Mapping[str, Any]]) -> Iterator[Text]:
    for name, budget in budgets.items():
        limits = ", ".join(budget["limits"])
        yield Text(f"{name} ({limits}): {_answer(budget)}", style="" if budget["reachable"] else "red")
        is_latency = any(limit.startswith("latency_ms") for limit in budget["limits"])
        if budget["reachable"] and not budget["by_base"] and is_latency:
            yield Text(f"  {_forecast(budget['forecast'])}")


def _answer(budget: Mapping[str, Any]) -> str:
    if budget["by_base"]:
        return "the base is within it as it is; a lower limit would make the search aim at something"
    return "can be met" if budget["reachable"] else "cannot be met, even by the smallest candidate"


def _forecast(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "what it takes is not known yet; next: paretoprune sensitivity"
    ms = found["latency_ms"]
    error = (ms["high"] - ms["low"]) / 2
    takes = f"predicted {ms['value']:.3g} ms (± {error:.2g}) with {found['params_m']:.3g} M parameters"
    return takes if found["known"] else f"{takes}; far from every shape that was timed, so this is a guess"


def _time(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return (
            "how long it takes is not known before the first trial: the fine-tune is your own, "
            "or the images of the data set cannot be counted"
        )
    trial, total = duration(found["trial_s"]), duration(found["total_s"])
    return f"a trial takes about {trial}, {found['trials']} trials about {total} (from {found['from']})"


def _environment(found: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in found.items():
        table.add_row(Text(name, style="bold"), Text(value))
    return table


def _space(facts: Mapping[str, Any]) -> list[str]:
    """Return how many groups and blocks can be pruned, and why others cannot."""
    frozen = [group for group in facts["groups"] if group["frozen"]]
    lines = [f"{len(facts['groups']) - len(frozen)} groups of channels can be pruned, {len(frozen)} cannot"]
    reasons = dict.fromkeys(group["frozen"] for group in frozen)
    lines += [f"  {sum(group['frozen'] == reason for group in frozen)}: {reason}" for reason in reasons]
    if facts["depth"]:
        count = len(facts["blocks"])
        lines.append(f"{count} blocks can be removed whole" if count else "no block of this model can be removed whole")
    if facts["unsupported"]:
        lines.append(f"operators without a rule: {', '.join(facts['unsupported'])}")
    return lines


def _dimensions(facts: Mapping[str, Any]) -> Table:
    table = plain_table("ratio of", numbers=("groups", "channels"))
    sizes = {group["name"]: group["size"] for group in facts["groups"]}
    for name, groups in facts["dimensions"].items():
        table.add_row(Text(name), str(len(groups)), str(sum(sizes[group] for group in groups)))
    return table


def _reach(reach: Mapping[str, Mapping[str, float]]) -> Table:
    table = plain_table("figure", numbers=("base", "smallest", "difference"))
    for name, found in reach.items():
        share = f"{100 * (found['least'] / found['base'] - 1):+.0f} %"
        table.add_row(name, f"{found['base']:.3f}", f"{found['least']:.3f}", share)
    return table
