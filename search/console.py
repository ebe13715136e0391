"""The terminal during and after a search: one progress line, one line per trial, a last word."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from objectives.objective import Objective
from search.errors import ConfigError
from search.loop import Progress
from search.present.snapshot import duration
from search.study import Listener, Study
from search.trial import Trial, TrialState

FORMATS = ("table", "json", "yaml")


def emit(console: Console, data: Any, form: str, drawn: RenderableType) -> None:
    """Print `data` as JSON or YAML, or what was drawn of it.

    Raises:
        ConfigError: a format that does not exist.
    """
    if form not in FORMATS:
        raise ConfigError(f"no format {form!r}", where="-f", expected=", ".join(FORMATS))
    if form == "table":
        console.print(drawn)
    elif form == "json":
        print(json.dumps(data, indent=1))
    else:
        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")


def trial_line(trial: Trial, objectives: tuple[Objective, ...], on_front: bool, eta_s: float | None) -> str:
    """`trial 17 (tpe): 0.412 mAP50-95, 5.13 ms, 1.92 M, on the front; 3 h left`."""
    head = f"trial {trial.number} ({trial.source})"
    left = "" if eta_s is None else f"; {duration(eta_s)} left"
    if trial.state == TrialState.FAILED or trial.measurement is None:
        return f"{head}: failed, {trial.error}{left}"
    figures = trial.measurement.figures
    texts = [_text(objective, figures[objective.name].value) for objective in objectives if objective.name in figures]
    if trial.same_as is not None:
        texts.append(f"the network of trial {trial.same_as}")
    if on_front:
        texts.append("on the front")
    return f"{head}: {', '.join(texts)}{left}"


def progress_line(progress: Progress) -> str:
    """`18/150 trials, trial 18 recover 40 % (1 min), 3 h left`."""
    ended = progress.done + progress.failed
    parts = [f"{ended}/{progress.total} trials"]
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    parts += [
        f"trial {number} {phase or 'starts'} ({duration(seconds)})"
        for number, (phase, seconds) in progress.running.items()
    ]
    if progress.eta_s is not None:
        parts.append(f"{duration(progress.eta_s)} left")
    return ", ".join(parts)


@contextmanager
def following(study: Study, console: Console) -> Iterator[Listener]:
    """A listener that shows a search: a live line on a terminal, plain lines elsewhere."""
    objectives = study.objectives

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    def ended(trial: Trial, progress: Progress) -> None:
        on_front = any(one.number == trial.number for one in study.front())
        say(trial_line(trial, objectives, on_front, progress.eta_s))

    if not console.is_terminal:
        yield Listener(note=lambda text: say(f"note: {text}"), trial=ended)
        return
    with Live(Text("preparing: tracing and measuring the base"), console=console, transient=True) as live:
        yield Listener(
            note=lambda text: say(f"note: {text}"),
            trial=ended,
            watch=lambda progress: live.update(Text(progress_line(progress), overflow="ellipsis", no_wrap=True)),
        )


def last_word(study: Study, console: Console) -> None:
    """State, picks, verdict and front, and what to type next."""
    from search.present.status import render_status

    content = study.snapshot()
    console.print(render_status(content))
    run = study.record.path
    for line in next_commands(run, content):
        console.print(Text(line), soft_wrap=True)


def next_commands(run: object, content: Mapping[str, Any]) -> list[str]:
    """What a user does with a front."""
    if content["state"] != "finished":
        return []  # the error says how to go on
    if not content["front"]:
        return ["next:", f"  paretoprune ls {run}"]
    picks = [name for name, pick in content["picks"].items() if pick["trial"] is not None]
    ref = picks[0] if picks else "knee"
    return ["next:", f"  paretoprune report {run}", f"  paretoprune export {run}:{ref} format=onnx"]


def _text(objective: Objective, value: float) -> str:
    text = objective.text(value)
    return f"{text} {objective.title}" if objective.is_fraction else text
