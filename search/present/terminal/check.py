"""Terminal output of `paretoprune check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from search.present.terminal.columns import plain_table
from search.present.terminal.target import target_lines
from search.results.snapshot_reader import duration


def render_check(facts: Mapping[str, Any], *, with_groups: bool = False) -> RenderableType:
    """Render budgets, time, reachable figures, what can be pruned and the environment, below 80 columns.

    `with_groups` adds the table of what has a ratio of its own, which is as long as the network.
    """
    parts: list[RenderableType] = [*target_lines(facts.get("target")), *_budgets(facts)]
    parts += [Text(_time(facts["time"])), Text()]
    parts += [_reach(facts["reach"]), Text(), Text("\n".join(_space(facts)))]
    parts += [Text(line, style="yellow") for line in facts["left_out"]]
    for base in facts.get("bases", [])[1:]:
        parts += [Text(f"\n{base['name']}, a further base"), _reach(base["reach"])]
    parts += [Text(), _environment(facts["environment"]), *map(Text, facts.get("lacking", ()))]
    count = len(facts["dimensions"])
    parts += [Text(), _dimensions(facts) if with_groups else Text(f"{count} ratios are searched; --groups lists them")]
    return Group(*parts)


def _budgets(facts: Mapping[str, Any]) -> Iterator[Text]:
    for name, budget in facts["budgets"].items():
        limits = ", ".join(budget["limits"])
        if facts.get("bases"):
            yield Text(f"{name} ({limits}):")
            yield from _by_base(facts["bases"], name)
            continue
        yield Text(f"{name} ({limits}): {_answer(budget)}", style="" if budget["reachable"] else "red")
        if _is_forecast(budget):
            yield Text(f"  {_forecast(budget['forecast'])}")


def _is_forecast(budget: Mapping[str, Any]) -> bool:
    """Return whether it is said what a latency limit takes: where it can be met, by pruning."""
    limited = any(limit.startswith(("latency_ms", "e2e_ms")) for limit in budget["limits"])
    return budget["reachable"] and not budget["by_base"] and limited


def _by_base(bases: Sequence[Mapping[str, Any]], name: str) -> Iterator[Text]:
    """Yield a line for each base of several: whether it can meet a budget, and with how much cut."""
    for base in bases:
        budget = base["budgets"][name]
        said = "is within it as it is" if budget["by_base"] else _answer(budget)
        if _is_forecast(budget):
            said = _cut(budget)
        yield Text(f"  {base['name']}: {said}", style="" if budget["reachable"] else "red")


def _cut(budget: Mapping[str, Any]) -> str:
    found = budget["forecast"]
    if found is not None:
        return _forecast(found)
    if budget["cut"] is None:
        return "can be met; with how much cut is known after: paretoprune sensitivity"
    about = f"can be met with about {100 * budget['cut']:.0f} % fewer MACs"
    return f"{about}, by its smallest candidate; more exactly: paretoprune sensitivity"


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
    if "cut" in found:
        takes += f", {100 * found['cut']['params']:.0f} % fewer"
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
    may_go = "space.levels" not in (facts.get("target") or {}).get("forbidden", {})
    lines += level_lines(facts.get("levels"), may_go=may_go)
    if facts["unsupported"]:
        lines.append(f"operators without a rule: {', '.join(facts['unsupported'])}")
    return lines


def _dimensions(facts: Mapping[str, Any]) -> Table:
    table = plain_table("ratio of", numbers=("groups", "channels"))
    sizes = {group["name"]: group["size"] for group in facts["groups"]}
    for name, groups in facts["dimensions"].items():
        table.add_row(Text(name), str(len(groups)), str(sum(sizes[group] for group in groups)))
    return table


def level_lines(found: Mapping[str, Any] | None, *, may_go: bool = True) -> Iterator[str]:
    """Yield what each detection level is used for, and what `space.levels` makes of those that are not, if they
    `may_go`.
    """
    if found is None:
        return
    shares = ", ".join(f"{name} {_percent(share)}" for name, share in found["shares"].items())
    yield f"assignments of {found['objects']} objects on {found['images']} images: {shares}"
    idle, offered = [name for name in found["idle"] if name not in found["offered"]], found["offered"]
    if offered:
        yield f"{' and '.join(offered)} can be removed whole"
    if idle and may_go:
        share, gets = sum(found["shares"][name] for name in idle), "gets" if len(idle) == 1 else "get"
        yield f"{' and '.join(idle)} {gets} {_percent(share)} of the assignments:"
        yield f"  space.levels=true offers to remove {'it' if len(idle) == 1 else 'them'}"


def _percent(share: float) -> str:
    return "under 0.1 %" if 0 < share < 0.001 else f"{100 * share:.3g} %"


def _reach(reach: Mapping[str, Mapping[str, float]]) -> Table:
    table = plain_table("figure", numbers=("base", "smallest", "difference"))
    for name, found in reach.items():
        share = f"{100 * (found['least'] / found['base'] - 1):+.0f} %"
        table.add_row(name, f"{found['base']:.3f}", f"{found['least']:.3f}", share)
    return table
