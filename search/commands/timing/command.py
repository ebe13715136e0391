"""The modes of `paretoprune bench`: time models, write a kit for another device, import its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from search.commands.arguments import check_form
from search.commands.progress import emit
from search.errors import ConfigError
from search.present.terminal.columns import plain_table
from search.references import find_run
from search.results.target_device import Target, import_figures
from search.study import Study


def run_bench(words: Sequence[str], bundle: Path | None, figures: Path | None, name: str | None, form: str) -> None:
    """Run the mode that the options select.

    Raises:
        ConfigError: options that exclude each other, or one that does not apply.
    """
    check_form(form)
    if bundle is not None and figures is not None:
        raise ConfigError("--bundle and --import exclude each other", expected="one of them")
    if name is not None and figures is None:
        raise ConfigError("--name belongs to --import", expected="bench RUN --import figures.json --name my-board")
    if bundle is not None:
        _bundle(words, bundle, form)
    elif figures is not None:
        _import(words, figures, name, form)
    else:
        _time(words, form)


def _time(words: Sequence[str], form: str) -> None:
    from search.commands.progress import StatusLine
    from search.commands.timing.bench import bench, facts_of, order_of
    from search.present.terminal.bench import render_bench

    order = order_of(words)
    with StatusLine() as say:
        rows = facts_of(order, bench(order, say))
    emit(Console(), rows, form, render_bench(rows))


def _bundle(words: Sequence[str], out: Path, form: str) -> None:
    from search.commands.progress import StatusLine
    from search.commands.timing.bench import settings_of
    from search.commands.timing.device_kit import build_kit

    study, keys = _run_and_keys(words)
    with StatusLine() as say:
        manifest = build_kit(study, out, settings_of(study, keys), say)
    facts = {
        "kit": str(out),
        "id": manifest["kit"],
        "models": manifest["models"],
        "size_mb": out.stat().st_size / 1e6,
    }
    emit(Console(), facts, form, _render_kit(facts))


def _render_kit(facts: Mapping[str, Any]) -> RenderableType:
    count = len(facts["models"])
    return Text(
        f"wrote {facts['kit']}: {count} models, {facts['size_mb']:.0f} MB\n"
        f"next, on the device: unzip {Path(facts['kit']).name} -d kit && python kit/run.py --name my-board\n"
        f"then, here: paretoprune bench RUN --import figures.json"
    )


def _import(words: Sequence[str], figures: Path, name: str | None, form: str) -> None:
    study, keys = _run_and_keys(words)
    if keys:
        raise ConfigError(
            f"{next(iter(keys))}= has no effect here", where="--import", expected="a run and nothing else"
        )
    target = import_figures(study.record, figures, name)
    study.refresh()
    facts = compared(study, target)
    emit(Console(), facts, form, _render_target(facts, study))


def _run_and_keys(words: Sequence[str]) -> tuple[Study, dict[str, Any]]:
    from search.commands.timing.models import split_words

    named, keys = split_words(words)
    if len(named) > 1:
        raise ConfigError(f"{named[1]!r}: a kit belongs to one run", expected="paretoprune bench RUN --bundle kit.zip")
    return Study.load(find_run(named[0] if named else None)), keys


def compared(study: Study, target: Target) -> dict[str, Any]:
    """Return the front by the study's latencies and by the target's: rank 1 is the fastest.

    Trials on the front that were not timed on the target have no rank there.
    """
    here = study.results()
    there = here.on(target.name)
    front = [trial for trial in here.front if not trial.exported]  # an export was timed here only
    shown = {trial.number: trial for trial in (*front, *there.trials)}
    here_ms = {n: t.figures["latency_ms"].value for t in here.trials if (n := t.number) in shown}
    there_ms = {trial.number: trial.figures["latency_ms"].value for trial in there.trials}
    common = sorted(here_ms.keys() & there_ms.keys())
    ranks = [_ranks({number: ms[number] for number in common}) for ms in (here_ms, there_ms)]
    fronts = ({t.number for t in front}, {t.number for t in there.front})
    rows = [
        {
            "trial": number,
            "latency_ms": there_ms.get(number),
            "interval_ms": None if number not in there_ms else _interval(target, number),
            "study_latency_ms": here_ms[number],
            "rank": ranks[1].get(number),
            "study_rank": ranks[0].get(number),
            "on_front": number in fronts[1],
            "study_on_front": number in fronts[0],
            "flags": list(target.flags.get(number, ())),
        }
        for number in sorted(shown, key=lambda n: (there_ms.get(n, float("inf")), n))
    ]
    return {"target": target.name, "machine": dict(target.machine), "base_ms": target.base_ms, "rows": rows}


def _ranks(latency_ms: Mapping[int, float]) -> dict[int, int]:
    return {number: rank for rank, number in enumerate(sorted(latency_ms, key=lambda n: (latency_ms[n], n)), 1)}


def _interval(target: Target, number: int) -> list[float]:
    found = target.latency_ms[number]
    return [found.low, found.high]


def _render_target(facts: Mapping[str, Any], study: Study) -> RenderableType:
    """Show ranks on the target beside those of the study; changes are marked."""
    numbers = (f"{facts['target']} ms", "study ms", "rank", "was", "change")
    table = plain_table("trial", numbers=numbers, no_wrap=True)
    table.add_column("front")
    for row in facts["rows"]:
        ms = "not timed" if row["latency_ms"] is None else f"{row['latency_ms']:.2f}"
        ranks = ("-", "-", "") if row["rank"] is None else (str(row["rank"]), str(row["study_rank"]), _change(row))
        table.add_row(str(row["trial"]), ms, f"{row['study_latency_ms']:.2f}", *ranks, _front_change(row))
    changed = sum(row["rank"] != row["study_rank"] for row in facts["rows"])
    said = f"{changed} of {len(facts['rows'])} ranks changed; kept as target {facts['target']}"
    again = f"next: paretoprune pick {study.record.path} --target {facts['target']} --max latency_ms=5"
    return Group(table, Text(), Text(said), Text(again))


def _change(row: Mapping[str, Any]) -> str:
    step = row["study_rank"] - row["rank"]
    return f"{step:+d}" if step else "="


def _front_change(row: Mapping[str, Any]) -> str:
    if row["latency_ms"] is None:
        return ""
    if row["on_front"] == row["study_on_front"]:
        return "front" if row["on_front"] else ""
    return "joins" if row["on_front"] else "leaves"
