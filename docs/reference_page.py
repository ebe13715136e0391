"""Writes docs/reference.md, every key of study.yaml and every command: `make reference`.

Names, types, limits and defaults come from the code; what a key means is a line of docs/keys.yaml. The page is
committed, and a test compares it with what this writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from typer.main import get_command

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from objectives.objective import MAIN_FIGURES, OBJECTIVES, TASK_FIGURES
from objectives.runtimes.names import RUNTIMES
from search.cli import app
from search.commands.init import write_starter
from search.config.comparability import comparable
from search.config.precision_support import FILES, precisions_of
from search.config.sections import TRACKERS
from search.config.spec import StudySpec

KEYS = Path(__file__).with_name("keys.yaml")
PAGE = KEYS.with_name("reference.md")
SECTIONS = ("search", "space", "recover", "latency", "keep", "notify", "figures")
NAMED = "NAME"
"""Stands for a name that the user chooses, as in `figures.NAME.unit`."""
SAID = {
    "space.round_to": "a whole number, 1 to 256, or `auto`",
    "imgsz": "a side, or [height, width]",
    "space.imgsz": "list of sides, or of [height, width]",
    "track": f"list of {', '.join(map('`{}`'.format, TRACKERS))}",
}
SAID |= {"target": "text", "model": "text, or a list of texts", "baselines": "list", "constraints": "figure: limit"}
SAID |= {"budgets": "name: {figure: limit}", "space.groups": "`auto`, `each`, or a list of patterns"}
"""Types that the code checks by itself, in a word."""
HEAD = """\
# Reference

Every key of study.yaml, every figure, runtime and command. Written by `make reference` from the code that reads them,
so that it is complete; what belongs together, and why, is on the pages that it links to.

A value comes from the command line (`search.trials=50`; a dot reaches into a section), then from the YAML, then from
the defaults here. Unknown keys, and values of another type or out of their limits, are refused with the line and the
nearest name, all at once. Paths in the file are relative to the file. The study that follows is written to
`args.yaml` of the run.

*Fixed*: trials with another value are not comparable, so a run that exists goes on with the value that it has, and
refuses another one. Everything else may be changed on `resume`.

## study.yaml
"""
FURTHER = """\
Every further key of YOLO.train (`lr0: 0.0005`, `mosaic: 0.5`) is passed on as it is. Those that the search sets
itself (`model`, `imgsz`, `seed`, ...) and those that would change what is compared are refused, with the reason."""
FIGURES = """
## Figures

In `objectives`, `constraints` and `budgets`, in `--max` and `--min`, in every table. **Bold**: the main figure of the
task, the default objective.

| name | unit | better | what it is | tasks |
|---|---|---|---|---|"""
RUNTIMES_HEAD = """
## Runtimes

What was run on which: [export.md](export.md#formats-and-runtimes-what-is-proven-here).

| `latency.runtime` | precisions on the CPU | on a GPU | its file |
|---|---|---|---|"""
COMMANDS = """
## Commands

`paretoprune COMMAND --help` says what each takes; `--debug` shows the traceback of an error.

| command | options | does |
|---|---|---|"""
TAIL = """
`RUN` is a run's folder or name, the latest by default. `RUN:REF` takes a trial number, `pick`, `knee`, `base`, the
name of a further base or of a budget, `17-int8` (an export of trial 17) or `best@latency_ms<=5`.

| exit code | means |
|---|---|
| 0 | done |
| 1 | an error inside; the same command with `--debug` shows where |
| 2 | usage or configuration: the message names the place and what was expected |
| 3 | nothing fits the budget (the closest is named), or an export lost more than `--max-drop` |
| 4 | a package, a device or a server is missing: the message says how to get it |
| 5 | the run is locked, corrupt, or made by another study |
| 130 | interrupted; the message has the command that resumes |
"""
ON_GPUS = ("onnxruntime", "torch", "tensorrt")
Row = tuple[dict[str, Any], bool]
"""A key's part of the JSON schema, and whether it is required."""


def rows(schema: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """(dotted key, its part of the JSON schema, is it required), of every key below `schema`."""
    definitions = schema.get("$defs", {})
    for key, part in schema["properties"].items():
        inner = part.get("$ref") or part.get("additionalProperties", {})
        reference = inner if isinstance(inner, str) else inner.get("$ref") if isinstance(inner, Mapping) else None
        if reference is None:
            yield prefix + key, part, key in schema.get("required", ())
            continue
        below = f"{prefix}{key}." if isinstance(inner, str) else f"{prefix}{key}.{NAMED}."
        yield from rows({**definitions[reference.rpartition("/")[2]], "$defs": definitions}, below)


def type_of(part: Mapping[str, Any]) -> str:
    """A type in words: `a whole number, 1 to 256`, `one of a, b`."""
    if "anyOf" in part:
        return " or ".join(type_of(one) for one in part["anyOf"] if one.get("type") != "null")
    if "enum" in part:
        return ", ".join(f"`{one}`" for one in part["enum"])
    if part.get("type") == "array":
        inner = part["prefixItems"][0] if "prefixItems" in part else part["items"]
        what = type_of(inner) + ("" if "enum" in inner else "s")
        return f"{len(part['prefixItems'])} {what}" if "prefixItems" in part else f"list of {what}"
    names = {"integer": "whole number", "number": "number", "string": "text", "boolean": "`true`, `false`"}
    return names.get(str(part.get("type")), "mapping") + limits_of(part)


def limits_of(part: Mapping[str, Any]) -> str:
    """`, 1 to 256`, `, above 0 to 1`, `, 0 or more`, or nothing."""
    names = (("minimum", "ge"), ("exclusiveMinimum", "gt"), ("maximum", "le"), ("exclusiveMaximum", "lt"))
    low, above, high, below = (part.get(long, part.get(short)) for long, short in names)
    first = f"above {above:,.0f}" if above is not None else "" if low is None else f"{low:,.0f}"
    last = f"below {below:,.0f}" if below is not None else "" if high is None else f"{high:,.0f}"
    return f", {first} to {last}" if first and last else f", {first} or more" if first else ""


def plain(value: object) -> str:
    """A value as YAML of one line, in the font of code; nothing where the key is best left out."""
    shown = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...").replace("''", '""')
    return "" if value is None else f"`{shown}`"


def fixed_keys() -> set[str]:
    """Keys whose values make trials comparable, asked of the code that compares them."""
    figures = {NAMED: {"direction": "max"}}
    given = {"model": "m.pt", "data": "d.yaml", "figures": figures}
    spec = StudySpec.model_validate(given, context={"check_paths": False})
    return set(dotted(comparable(spec.resolved(), {})))


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def starter() -> dict[str, Any]:
    """The values of what `init` writes, below the sections."""
    with TemporaryDirectory() as folder:
        written = yaml.safe_load(write_starter(Path(folder) / "study.yaml").read_text(encoding="utf-8"))
    below = {section: written[section] for section in SECTIONS if section in written}
    return {f"{section}.{key}": value for section, keys in below.items() for key, value in keys.items()}


def table(keys: Mapping[str, Row], means: Mapping[str, str]) -> Iterator[str]:
    """The lines of a table of keys. Raises KeyError for a key that docs/keys.yaml does not explain."""
    written, fixed = starter(), fixed_keys()
    yield "| key | type | default | | meaning |\n|---|---|---|---|---|"
    for key, (part, required) in keys.items():
        default = "required" if required else plain(part.get("default"))
        if written.get(key) not in (None, part.get("default")):
            default = f"{default}; `init` writes {plain(written[key])}".removeprefix("; ")
        kind = SAID.get(key, type_of(part))
        yield f"| `{key}` | {kind} | {default} | {'fixed' if key in fixed else ''} | {means[key]} |"


def commands() -> Iterator[str]:
    """A row for each command: its words, its options, the first line of its help."""
    group: Any = get_command(app)
    for name, command in group.commands.items():
        options = [
            one.opts[0] for one in command.params if one.param_type_name == "option" and "--debug" not in one.opts
        ]
        first = str(command.help).splitlines()[0].replace("|", "\\|")
        yield f"| `{name}` | {' '.join(map('`{}`'.format, options))} | {first} |"


def figures() -> Iterator[str]:
    for one in (objective for name, objective in OBJECTIVES.items() if name != NAMED):
        tasks = [task for task, known in TASK_FIGURES.items() if one.name in known]
        marked = ", ".join(f"**{task}**" if MAIN_FIGURES[task] == one.name else task for task in tasks) or "all"
        better, unit = ("more" if one.direction == "max" else "less"), ("share of 1" if one.is_fraction else one.unit)
        yield f"| `{one.name}` | {unit} | {better} | {one.title} | {marked} |"


def runtimes() -> Iterator[str]:
    for runtime in RUNTIMES:
        cpu = "" if runtime == "tensorrt" else ", ".join(precisions_of(runtime))
        gpu = ", ".join(precisions_of(runtime, "0")) if runtime in ON_GPUS else ""
        yield f"| `{runtime}` | {cpu} | {gpu} | {FILES.get(runtime, '')} |"


def page(means: Mapping[str, str]) -> str:
    """The whole page. Raises KeyError for a key without an explanation, ValueError for one that explains no key."""
    known = {key: (part, required) for key, part, required in rows(StudySpec.model_json_schema(by_alias=True))}
    if stray := means.keys() - known.keys():
        raise ValueError(f"docs/keys.yaml explains what is no key: {', '.join(sorted(stray))}")
    lines = [HEAD, *table({key: row for key, row in known.items() if "." not in key}, means)]
    for section in SECTIONS:
        lines += [
            f"\n### {section}\n",
            *table({k: row for k, row in known.items() if k.startswith(f"{section}.")}, means),
        ]
        lines += [f"\n{FURTHER}"] if section == "recover" else []
    lines += [FIGURES, *figures()]
    lines += [RUNTIMES_HEAD, *runtimes(), COMMANDS, *commands(), TAIL]
    return "\n".join(lines)


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Write the reference of all keys.")
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.parse_args().out.write_text(page(yaml.safe_load(KEYS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
