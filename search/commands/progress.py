"""Terminal output during and after a search: a progress line, one line per trial, a final summary."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import yaml
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from objectives.objective import Objective
from search.callbacks.callback import Callback
from search.commands.arguments import check_form
from search.orchestration.loop import Progress
from search.results.snapshot_reader import duration
from search.study import Study
from search.trial import Trial, TrialState

QUIET_S = 50.0
"""Without a terminal, the longest silence."""


def emit(console: Console, data: Any, form: str, drawn: RenderableType) -> None:
    """Print `data` as JSON or YAML, or its rendering `drawn`.

    Raises:
        ConfigError: an unknown format.
    """
    check_form(form)
    if form == "table":
        console.print(drawn)
    elif form == "json":
        print(json.dumps(data, indent=1))
    else:
        print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), end="")


def trial_line(trial: Trial, objectives: tuple[Objective, ...], on_front: bool, eta_s: float | None) -> str:
    """Format `trial 17 (tpe): 0.412 mAP50-95, 5.13 ms, 1.92 M, on the front; 3 h left`."""
    head = f"trial {trial.number} ({trial.source})"
    left = "" if eta_s is None else f"; {duration(eta_s)} left"
    if trial.state == TrialState.FAILED or trial.measurement is None:
        return f"{head}: failed, {trial.error}{left}"
    figures = trial.measurement.figures
    if trial.state == TrialState.SCREENED:
        return f"{head}: screened, its outputs diverge by {trial.measurement.score:.3f}{left}"
    texts = [_text(objective, figures[objective.name].value) for objective in objectives if objective.name in figures]
    if trial.same_as is not None:
        texts.append(f"the network of trial {trial.same_as}")
    if on_front:
        texts.append("on the front")
    return f"{head}: {', '.join(texts)}{left}"


def progress_line(progress: Progress) -> str:
    """Format `18/150 trials, trial 18 recover 40 % (1 min), 3 h left`."""
    ended = progress.done + progress.failed
    parts = [f"{ended}/{progress.total} trials"]
    if progress.paused is not None:
        parts.append(f"paused, {progress.paused}")
    if progress.screened:
        parts.append(f"{progress.screened} screened")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    parts += [
        f"trial {number} {one.phase or 'starts'} ({duration(seconds)})"
        for number, (one, seconds) in progress.running.items()
    ]
    left = "the time left is known soon" if progress.eta_s is None else f"{duration(progress.eta_s)} left"
    return ", ".join([*parts, left])


@dataclass
class StatusLine:
    """Prints lasting lines and the current activity: one line that is redrawn on a terminal; elsewhere a line when the
    activity changes, and at least one a minute.

    Args:
        now: a monotonic clock in seconds.
    """

    console: Console = field(default_factory=lambda: Console(stderr=True))
    now: Callable[[], float] = time.monotonic
    _live: Live | None = None
    _what: str = ""
    _said: float = -math.inf

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(Text("starting"), console=self.console, transient=True)
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, what: str, left_s: float | None = None) -> None:
        """Show the current activity, and the most seconds that it takes."""
        self.show(what if left_s is None else f"{what}, at most {duration(left_s)} left", what)

    def tell(self, text: str) -> None:
        """Print a lasting line."""
        self._said = self.now()
        with suppress(OSError):  # a terminal that has just gone
            self.console.print(Text(text), soft_wrap=True)

    def show(self, text: str, what: str = "") -> None:
        """Redraw the live line; without a terminal, print it if the activity (`what`) changed or after a minute."""
        if self._live is not None:
            self._live.update(Text(text, overflow="ellipsis", no_wrap=True))
        elif what != self._what or self.now() - self._said >= QUIET_S:
            self._what = what
            self.tell(text)


@dataclass
class Follower(Callback):
    """Shows a search: one live line on a terminal, elsewhere plain lines, at least one a minute."""

    study: Study
    speaker: StatusLine
    _phase: str = ""
    _since: float = 0.0

    def __post_init__(self) -> None:
        self._before = sum(trial.state != TrialState.STOPPED for trial in self.study.trials())

    def on_note(self, study: Study, text: str) -> None:
        self.speaker.tell(f"note: {text}")

    def on_activity(self, study: Study, text: str) -> None:
        phase = text.rstrip("0123456789 %")
        if phase != self._phase:
            self._phase, self._since = phase, self.speaker.now()
        seconds = self.speaker.now() - self._since
        passed = f" ({duration(seconds)})" if seconds >= 1 else ""
        self.speaker.show(f"{text}{passed}, {self._before}/{study.spec.search.trials} trials", phase)

    def on_trial_end(self, study: Study, trial: Trial) -> None:
        on_front = any(one.id == trial.id for one in study.front())
        self.speaker.tell(trial_line(trial, study.objectives, on_front, study.progress()["eta_s"]))

    def on_progress(self, study: Study, progress: Progress) -> None:
        self.speaker.show(progress_line(progress), self._phase)


@contextmanager
def following(study: Study, console: Console) -> Iterator[Callback]:
    """Yield a callback that shows a search."""
    with StatusLine(console) as speaker:
        yield Follower(study, speaker)


def print_summary(study: Study, console: Console) -> None:
    """Print state, picks, verdict and front, and the next commands."""
    from search.present.terminal.status import render_status

    content = study.snapshot()
    console.print(render_status(content))
    run = study.record.path
    for line in next_commands(run, content):
        console.print(Text(line), soft_wrap=True)


def next_commands(run: object, content: Mapping[str, Any]) -> list[str]:
    """Suggest the next commands for a finished run."""
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
